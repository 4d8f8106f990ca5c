"""Programs of others that the tests try the server with."""

import shutil
from pathlib import Path

import pytest

_BIN = Path(__file__).parent.parent / ".tools/bin"


def program(name: str) -> Path:
    """Where a program is; skips the test where it is not."""
    own = _BIN / name
    found = own if own.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not here: `scripts/tools {name}` brings it")
    return Path(found)
