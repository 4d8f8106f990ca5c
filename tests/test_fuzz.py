"""scripts/fuzz: a short run with a fixed seed finds nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.rpcs import RPCS

FUZZ = Path(__file__).parents[1] / "scripts/fuzz.d/run.py"


@pytest.mark.slow
def test_hostile_calls_to_every_rpc_break_nothing() -> None:
    done = subprocess.run(
        [sys.executable, FUZZ, "--calls", "500", "--seed", "6", "--verbose"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "500 calls in" in done.stdout, done.stderr
    assert done.returncode == 0, done.stdout
    assert {line.partition(":")[0] for line in done.stdout.splitlines()} >= set(map(str, RPCS))


@pytest.mark.slow
def test_a_server_that_is_not_there_is_wrong_usage() -> None:
    done = subprocess.run(
        [sys.executable, FUZZ, "--server", "127.0.0.1:1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "no call to 127.0.0.1:1 succeeds" in done.stderr
