"""External programs that the tests use with the server."""

import shutil
from pathlib import Path

import pytest

_BIN = Path(__file__).parent.parent / ".tools/bin"


def program(name: str) -> Path:
    """Returns a program's path. Skips the test where it is missing."""
    own = _BIN / name
    found = own if own.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not here: `scripts/tools {name}` brings it")
    return Path(found)
