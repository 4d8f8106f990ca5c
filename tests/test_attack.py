"""`scripts/attack` attacks, measures and reports. No time and no verdict is checked here."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: Columns of a line after its name, all of them numbers.
COLUMNS = re.compile(r"calls +failed +p50 +p99 +max +idle p99 +MB before +peak +after +in s$")


def attack(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "scripts/attack", *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_the_attacks_are_listed() -> None:
    listed = attack("--list")
    assert listed.returncode == 0, listed.stderr
    names = [line.split()[0] for line in listed.stdout.splitlines()]
    assert {"control", "reset-open", "half-post-required", "crowd-posts"} <= set(names)
    assert len(names) == len(set(names))


@pytest.mark.slow
def test_an_unknown_attack_is_reported_with_the_known_ones() -> None:
    unknown = attack("nonsense")
    assert unknown.returncode == 2
    assert "reset-open" in unknown.stderr


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_an_attack_is_run_and_reported() -> None:
    tried = attack("--seconds", "1", "crowd-tokens")
    head, line, did, total = tried.stdout.splitlines()
    assert COLUMNS.search(head), tried.stderr
    name, *columns = line.split()
    assert name == "crowd-tokens"
    calls, failed, *figures = (float(column) for column in columns[:10])
    assert 0 <= failed <= calls
    before, peak, after = figures[4:7]
    assert before > 0
    assert max(before, after) <= peak
    assert re.match(r"    \d[\d,]* calls, \d[\d,]* answered", did)
    passed = tried.returncode == 0
    assert columns[10].startswith("ok" if passed else "FAILED")
    assert re.match("1 ok, 0 FAILED" if passed else "0 ok, 1 FAILED", total)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_an_attack_that_keeps_the_innocent_agent_from_posting_fails() -> None:
    """The limit of a byte per text refuses all of its posts."""
    tried = attack("--seconds", "1", "control", "--", "--max-content-bytes", "1")
    assert tried.returncode == 1, tried.stdout + tried.stderr
    line = tried.stdout.splitlines()[1]
    assert re.search(r"FAILED: .*innocent calls failed: \d+ INVALID_ARGUMENT", line)
