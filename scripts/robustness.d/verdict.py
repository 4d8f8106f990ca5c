"""Judges a recorded history: the calls by porcupine, the followers by the final logs."""

import fcntl
import subprocess
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from pathlib import Path

import history
from history import Follower, Operation

ROOT = Path(__file__).parents[2]
_CHECKER = Path(__file__).parent / "checker"
#: Seconds for the calls of one history.
_TIMEOUT = 120
#: A server refuses a call for one of these reasons while it or its store is out of order.
_REFUSALS = ("UNAVAILABLE STORE_BUSY", "UNAVAILABLE STORE_FAILED", "UNAVAILABLE DRAINING")


def missing() -> str:
    """Returns what this machine lacks to build the checker; empty if nothing."""
    command = [ROOT / "scripts/languages/go", "needs"]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()


def build() -> Path:
    """Returns the checker, which is built if needed. Raises CalledProcessError."""
    # Not go.mod, which Go locks itself.
    with Path(__file__).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        command = ["go", "build", "-C", _CHECKER, "-p", "2", "-buildvcs=false", "-o", "build/", "."]
        subprocess.run(command, check=True)
    return _CHECKER / "build/checker"


def judge(folder: Path, checker: Path) -> int:
    """Judge a history, and print what is found.

    Returns 0 if nothing is wrong, 1 if something is, 2 if the checker ran out of time. Raises
    CalledProcessError if it cannot read the history.
    """
    operations, followers, problems = history.read(folder)
    print(f"  {_counts(operations)}")
    waits = sum(follower.waits for follower in followers)
    received = sum(len(follower.received) for follower in followers)
    print(f"  {len(followers)} followers: {received} messages, {waits} waits", flush=True)
    command = [checker, f"-timeout={_TIMEOUT}s", folder / history.HISTORY]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode not in (0, 1, 2):
        raise subprocess.CalledProcessError(done.returncode, command)
    print(done.stdout, end="")
    logs = {entry.thread: entry.contents for entry in operations if entry.kind == "log"}
    problems += _unexplained_errors(operations)
    for follower in followers:
        wrong = [*follower.problems, *_deviation(follower, logs[follower.thread])]
        problems += [f"follower {follower.name}: {problem}" for problem in wrong]
    for problem in problems:
        print(f"  FOUND: {problem}")
    code = 1 if problems else done.returncode
    print(f"  {('nothing is wrong', 'SOMETHING IS WRONG', 'UNDECIDED')[code]}")
    return code


def _counts(operations: Iterable[Operation]) -> str:
    kinds = Counter(
        f"{entry.kind} {'repeated' if entry.repeated else entry.outcome}"
        for entry in operations
        if entry.kind not in ("fault", "log")
    )
    return ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))


def _unexplained_errors(operations: Iterable[Operation]) -> list[str]:
    """Returns errors that no fault explains, with their numbers."""
    errors = Counter(
        entry.error
        for entry in operations
        if (entry.outcome == "refused" and entry.error not in _REFUSALS)
        or entry.error.endswith(" INTERNAL")
    )
    return [f"{count} calls ended with {error}" for error, count in sorted(errors.items())]


def _deviation(follower: Follower, log: Sequence[str]) -> list[str]:
    """Returns the first difference between what was received and the log; empty if none."""
    received = follower.received
    for at, (got, due) in enumerate(zip_longest(received, enumerate(log, 1))):
        if got == due:
            continue
        if got is None:
            return [f"received {len(received)} of {len(log)} messages"]
        again = ", which it had received before" if got in received[:at] else ""
        wanted = f"message {due[0]}, {due[1]}," if due else "nothing"
        return [f"received message {got[0]}, {got[1]}, where {wanted} was due{again}"]
    return []
