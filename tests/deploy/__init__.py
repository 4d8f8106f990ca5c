"""The files in deploy/: linted, and run as far as that is possible without an engine."""

import os
from pathlib import Path

import pytest

from tests.programs import program

ROOT = Path(__file__).parent.parent.parent


def tool(name: str) -> str:
    """Returns the path of a program of scripts/tools. Skips the test without; on CI it fails."""
    try:
        return str(program(name))
    except pytest.skip.Exception as missing:
        assert os.environ.get("CI") != "true", missing
        raise
