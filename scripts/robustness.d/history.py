"""A recorded history: what clients called, and what they learned. Kept as JSON, a line for each."""

import dataclasses
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

HISTORY, FOLLOWERS, PROBLEMS = "history.jsonl", "followers.jsonl", "problems"

Kind = Literal["post", "head", "newest", "message", "log", "fault"]
#: `conflict` and `missing` are answers: SEQ_CONFLICT and MESSAGE_NOT_FOUND. `refused`: an error
#: that says that nothing was done. `unknown`: the call may or may not have happened.
Outcome = Literal["ok", "conflict", "missing", "refused", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One call of a client, on the monotonic clock of the recording process.

    A retry is an operation of its own, with the content and the request_id of the first. A `log` is
    a whole thread, read when nothing else was under way. A `fault` is no call, but what was done to
    the servers; `content` says what.
    """

    kind: Kind
    #: Nanoseconds, before it was sent and after it was answered.
    call: int
    returned: int
    thread: str = ""
    client: int = 0
    server: int = 0
    outcome: Outcome = "ok"
    #: The status code and the reason of an error.
    error: str = ""
    #: Of a post, or of the message read. Each post of a thread has another one.
    content: str = ""
    request_id: str = ""
    #: expected_last_seq.
    expected: int | None = None
    #: Of the post, or of the message read; 0: there is none.
    seq: int = 0
    #: The head that the answer reports.
    head: int = 0
    #: `deduplicated`.
    repeated: bool = False
    #: Of a `log`: all contents.
    contents: Sequence[str] = ()


@dataclass(slots=True, kw_only=True)
class Follower:
    """What one reader of a thread received, in order, across all its reconnections."""

    name: str
    thread: str
    #: Seq and content of each message.
    received: list[tuple[int, str]] = field(default_factory=list)
    #: Calls of WaitMessages that began; none of the SDK.
    waits: int = 0
    #: What it must not get: resyncs, and errors other than lost connections.
    problems: list[str] = field(default_factory=list)


def write(
    folder: Path,
    operations: Iterable[Operation],
    followers: Iterable[Follower],
    problems: Iterable[str] = (),
) -> None:
    """Write a history into a folder, which is created if needed."""
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / HISTORY, operations)
    _write(folder / FOLLOWERS, followers)
    (folder / PROBLEMS).write_text("".join(f"{problem}\n" for problem in problems), "utf-8")


def _write(path: Path, entries: Iterable[Operation] | Iterable[Follower]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for entry in entries:
            fields = dataclasses.asdict(entry)
            default = {f.name: f.default for f in dataclasses.fields(entry)}
            shown = {name: value for name, value in fields.items() if value != default[name]}
            print(json.dumps(shown), file=file)


def read(folder: Path) -> tuple[list[Operation], list[Follower], list[str]]:
    """Returns the operations, the followers and the problems. Raises OSError."""
    operations = [Operation(**fields) for fields in _lines(folder / HISTORY)]
    followers = [Follower(**fields) for fields in _lines(folder / FOLLOWERS)]
    for follower in followers:
        follower.received = [(seq, content) for seq, content in follower.received]
    return operations, followers, (folder / PROBLEMS).read_text("utf-8").splitlines()


def _lines(path: Path) -> Iterable[dict[str, Any]]:
    return map(json.loads, path.read_text("utf-8").splitlines())
