"""`scripts/screenshots` takes the pictures of docs/images."""

import subprocess
from pathlib import Path

import pytest

from tests.clocks import WallClock
from tests.console.page.pages import needed
from tests.doc_examples import ROOT


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_every_picture_is_taken(tmp_path: Path) -> None:
    needed("chromium")
    WallClock(tmp_path)  # skips where there is no compiler
    script = [str(ROOT / "scripts/screenshots"), "--out", str(tmp_path / "images")]
    run = subprocess.run(script, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    taken = {path.name for path in (tmp_path / "images").iterdir()}
    assert taken == {path.name for path in (ROOT / "docs/images").iterdir()}
