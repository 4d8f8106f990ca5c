"""scripts/fuzz: a short run with a fixed seed finds nothing."""

import os
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
def test_a_missing_server_is_wrong_usage() -> None:
    done = subprocess.run(
        [sys.executable, FUZZ, "--server", "127.0.0.1:1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "no call to 127.0.0.1:1 succeeds" in done.stderr


_SHOW_CALLS = """
from calls import plan
from cast import Cast
from methods import all_methods

methods, cast = all_methods(), Cast(6, 0, "operator", ["epoch"], ["page"])
print([plan(6, number, methods[number % len(methods)], cast) for number in range(300)])
"""


@pytest.mark.slow
def test_a_seed_and_a_number_make_the_same_call_in_any_process() -> None:
    shown = {
        subprocess.run(
            [sys.executable, "-c", _SHOW_CALLS],
            cwd=FUZZ.parent,
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(shown) == 1
