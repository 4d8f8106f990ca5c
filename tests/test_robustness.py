"""scripts/robustness: what is wrong in a history is found, and a short run finds nothing."""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.languages import Language

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts/robustness.d"
#: A history that the script recorded, of three clients on two threads: with lost answers, conflicts
#: and repeats.
RECORDED = Path(__file__).parent / "robustness"
#: The names of controls.py.
CONTROLS_OF_CALLS = [
    *("lost-post", "stored-twice", "one-seq-for-two", "stale-read", "false-conflict"),
    *("ignored-expectation", "other-answer", "stored-refusal", "wrong-content"),
]
CONTROLS_OF_FOLLOWERS = ["follower-misses", "follower-repeats", "follower-swaps", "follower-stops"]


@pytest.fixture(scope="session")
def modules() -> Iterator[Callable[[str], Any]]:
    """Imports a module of the script."""
    sys.path.insert(0, str(SCRIPT))
    yield importlib.import_module
    sys.path.remove(str(SCRIPT))


@pytest.fixture(scope="session")
def checker(modules: Callable[[str], Any]) -> Path:
    """The checker. Skips the test without Go; on CI that is an error."""
    if missing := Language("go").missing():
        assert os.environ.get("CI") != "true", missing
        pytest.skip(f"the checker needs {missing}")
    built: Path = modules("verdict").build()
    return built


# ── What the followers and the calls of a recorded history may not tell ───────────────────────────


def test_a_recorded_history_is_explained(
    modules: Callable[[str], Any], checker: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert modules("verdict").judge(RECORDED, checker) == 0
    assert "thread t1" in capfd.readouterr().out


def test_every_control_is_tried(modules: Callable[[str], Any]) -> None:
    known = modules("controls").CONTROLS
    assert sorted(known) == sorted(CONTROLS_OF_CALLS + CONTROLS_OF_FOLLOWERS)


@pytest.mark.parametrize("control", CONTROLS_OF_CALLS + CONTROLS_OF_FOLLOWERS)
def test_what_a_control_breaks_is_found(
    modules: Callable[[str], Any],
    checker: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    control: str,
) -> None:
    operations, followers, problems = modules("history").read(RECORDED)
    modules("controls").alter(control, operations, followers)
    modules("history").write(tmp_path, operations, followers, problems)
    assert modules("verdict").judge(tmp_path, checker) == 1
    shown = capfd.readouterr().out
    if control in CONTROLS_OF_FOLLOWERS:
        assert "ILLEGAL" not in shown
        assert "FOUND: follower" in shown
    else:
        assert "ILLEGAL" in shown
        assert any(tmp_path.glob("history-t*.html"))


def test_errors_that_no_fault_explains_are_found(
    modules: Callable[[str], Any],
    checker: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    operations, followers, _ = modules("history").read(RECORDED)
    lost = modules("history").Operation(
        kind="head", thread="t0", call=1, returned=2, outcome="refused", error="NOT_FOUND GONE"
    )
    modules("history").write(tmp_path, [*operations, lost], followers, ["server 0 fell over"])
    assert modules("verdict").judge(tmp_path, checker) == 1
    shown = capfd.readouterr().out
    assert "FOUND: 1 calls ended with NOT_FOUND GONE" in shown
    assert "FOUND: server 0 fell over" in shown


# ── What becomes of calls whose answers were lost ─────────────────────────────────────────────────

Call = dict[str, Any]


def lost_post(call: int, returned: int, content: str = "a", **fields: Any) -> Call:
    return {
        **{"kind": "post", "outcome": "unknown", "content": content, "request_id": content},
        **{"call": call, "returned": returned, **fields},
    }


def post(call: int, returned: int, seq: int, content: str = "a", **fields: Any) -> Call:
    answer = {"outcome": "ok", "seq": seq, "head": seq}
    return lost_post(call, returned, content) | answer | fields


def head(call: int, returned: int, seq: int) -> Call:
    return {"kind": "head", "call": call, "returned": returned, "head": seq}


def log(*contents: str) -> Call:
    return {"kind": "log", "call": 1_000, "returned": 1_001, "contents": contents}


CASES: dict[str, tuple[bool, list[Call]]] = {
    "a lost post that did not happen": (True, [lost_post(1, 2), head(3, 4, 0), log()]),
    "one that happened": (True, [lost_post(1, 2), head(3, 4, 1), log("a")]),
    "one that happened late": (True, [lost_post(1, 2), head(3, 4, 0), head(5, 6, 1), log("a")]),
    "one that was seen and is gone": (False, [lost_post(1, 2), head(3, 4, 1), log()]),
    "one that was seen and not later": (
        False,
        [lost_post(1, 2), head(3, 4, 1), head(5, 6, 0), log("a")],
    ),
    "one that was seen before it was sent": (False, [head(1, 2, 1), lost_post(3, 4), log("a")]),
    "one that happened twice": (False, [lost_post(1, 2), log("a", "a")]),
    "one whose repeat appended": (True, [lost_post(1, 2), post(3, 4, 1), log("a")]),
    "one whose repeat found it": (True, [lost_post(1, 2), post(3, 4, 1, repeated=True), log("a")]),
    "one whose repeat appended before it was made": (
        False,
        [lost_post(1, 2), head(3, 4, 1), post(5, 6, 1), log("a")],
    ),
    "one whose expectation did not hold": (
        False,
        [post(1, 2, 1, "b"), lost_post(3, 4, expected=0), log("b", "a")],
    ),
    "a repeat that found what was never sent": (False, [post(1, 2, 1, repeated=True), log("a")]),
    "a repeat without a request_id": (
        False,
        [post(1, 2, 1), post(3, 4, 1, repeated=True, request_id=""), log("a")],
    ),
    "two that both appended": (False, [post(1, 3, 1), post(2, 4, 1), log("a")]),
    "two of which one appended": (True, [post(1, 3, 1), post(2, 4, 1, repeated=True), log("a")]),
    "a conflict of a post that is stored": (
        False,
        [
            post(1, 2, 1),
            lost_post(3, 4, outcome="conflict", expected=0, head=1),
            log("a"),
        ],
    ),
    "a conflict that reports another head": (
        False,
        [post(1, 2, 1), lost_post(3, 4, "c", outcome="conflict", expected=0, head=2), log("a")],
    ),
    "a message that is missing before it is posted": (
        True,
        [
            {"kind": "message", "outcome": "missing", "seq": 1, "call": 1, "returned": 5},
            post(2, 3, 1),
            log("a"),
        ],
    ),
    "a message that is missing although it is there": (
        False,
        [
            post(1, 2, 1),
            {"kind": "message", "outcome": "missing", "seq": 1, "call": 3, "returned": 4},
            log("a"),
        ],
    ),
    "a newest message from before the head": (
        False,
        [
            post(1, 2, 1),
            post(3, 4, 2, "b"),
            {"kind": "newest", "seq": 1, "content": "a", "head": 2, "call": 5, "returned": 6},
            log("a", "b"),
        ],
    ),
    "servers whose logs differ": (False, [post(1, 2, 1), log("a"), log()]),
}


def check(checker: Path, folder: Path, *calls: Call, timeout: str = "10s") -> int:
    """Returns the checker's exit code for calls on one thread."""
    history = folder / "history.jsonl"
    lines = [json.dumps({"thread": "t0", **call}) for call in calls]
    history.write_text("\n".join(lines), "utf-8")
    return subprocess.run([checker, f"-timeout={timeout}", history], check=False).returncode


@pytest.mark.parametrize("case", CASES)
def test_calls_are_explained_or_not(checker: Path, tmp_path: Path, case: str) -> None:
    explained, calls = CASES[case]
    assert check(checker, tmp_path, *calls) == (0 if explained else 1)


def test_a_history_that_takes_too_long_is_undecided(checker: Path, tmp_path: Path) -> None:
    # Any of the reads may come before any other, and none of the orders explains the last one.
    reads = [head(n, 100 + n, 0) for n in range(40)]
    assert check(checker, tmp_path, *reads, head(50, 60, 1), log(), timeout="50ms") == 2


def test_a_history_without_its_end_is_refused(checker: Path, tmp_path: Path) -> None:
    assert check(checker, tmp_path, post(1, 2, 1)) == 3


# ── Runs ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_a_short_run_finds_nothing(
    request: pytest.FixtureRequest, checker: Path, engine: str, tmp_path: Path
) -> None:
    if engine == "postgresql":
        request.getfixturevalue("postgres")  # skips the test, or fails it, if there is none
    kept = tmp_path / "kept"
    done = subprocess.run(
        [sys.executable, SCRIPT / "run.py", "--engine", engine, "--seconds=1", f"--keep={kept}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{engine}: " in done.stdout
    assert "1 × kill" in done.stdout
    assert "nothing is wrong" in done.stdout
    again = subprocess.run(
        [sys.executable, SCRIPT / "run.py", "--judge", kept / engine, "--control", "lost-post"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode == 1, again.stdout + again.stderr
    assert "SOMETHING IS WRONG" in again.stdout


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_checker_is_formatted_and_vetted(checker: Path) -> None:
    folder = SCRIPT / "checker"
    files = sorted(folder.glob("*.go"))
    unformatted = subprocess.run(["gofmt", "-l", *files], capture_output=True, check=True)
    assert unformatted.stdout == b""
    subprocess.run(["go", "vet", "-C", folder, "./..."], check=True)
