"""The oldest protobuf that pyproject.toml allows works, though older than the stubs' generator."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
#: Posting, waiting, the SDK and JSON; nothing that needs other packages' generated modules.
TESTS = ("posting", "posting_bodies", "waiting", "sdk_wait", "sdk_input", "cli_import_lines")


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_oldest_allowed_protobuf_works(tmp_path: Path) -> None:
    (oldest,) = re.findall(r'"protobuf>=([\d.]+),', (ROOT / "pyproject.toml").read_text("utf-8"))
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(site)]
    packages = [f"protobuf=={oldest}", "googleapis-common-protos"]
    installed = subprocess.run([*install, *packages], capture_output=True, text=True, timeout=100)
    if installed.returncode:
        assert os.environ.get("CI") != "true", installed.stderr
        pytest.skip(f"protobuf {oldest} cannot be had here")
    path = os.pathsep.join(map(str, (site, ROOT, ROOT / "protos")))

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            env=os.environ | {"PYTHONPATH": path},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=200,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    assert run("-c", "import google.protobuf; print(google.protobuf.__version__)") == f"{oldest}\n"
    files = (f"tests/test_{name}.py" for name in TESTS)
    run("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "not slow", *files)
