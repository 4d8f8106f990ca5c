"""Alters a history so that it is wrong: what the judgement must find."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence

from history import Follower, Operation

History = tuple[list[Operation], list[Follower]]


def alter(name: str, operations: list[Operation], followers: list[Follower]) -> None:
    """Alter a history in place. Raises ValueError if it has nothing that could be altered so."""
    CONTROLS[name](operations, followers)


def _lost_post(operations: list[Operation], _: list[Follower]) -> None:
    """An acknowledged post is missing from its thread in the end."""
    post = _first(operations, _appended)
    for at, entry in enumerate(operations):
        if entry.kind == "log" and entry.thread == post.thread:
            kept = [content for content in entry.contents if content != post.content]
            operations[at] = dataclasses.replace(entry, contents=kept)


def _stored_twice(operations: list[Operation], _: list[Follower]) -> None:
    """A post is in its thread twice."""
    post = _first(operations, _appended)
    for at, entry in enumerate(operations):
        if entry.kind == "log" and entry.thread == post.thread:
            operations[at] = dataclasses.replace(entry, contents=[*entry.contents, post.content])


def _one_seq_for_two(operations: list[Operation], _: list[Follower]) -> None:
    """Two posts were acknowledged with one seq."""
    post = _first(operations, _appended)
    other = _first(
        operations, lambda e: _appended(e) and e.thread == post.thread and e.seq == post.seq + 1
    )
    _replace(operations, other, seq=post.seq, head=post.head)


def _stale_read(operations: list[Operation], _: list[Follower]) -> None:
    """A read returns a head from before a post that had been acknowledged."""

    def fresh(entry: Operation) -> bool:
        return entry.kind == "head" and any(
            _appended(post)
            and (post.thread, post.seq) == (entry.thread, entry.head)
            and post.returned < entry.call
            for post in operations
        )

    read = _first(operations, fresh)
    _replace(operations, read, head=read.head - 1)


def _false_conflict(operations: list[Operation], _: list[Follower]) -> None:
    """A post is refused, although the head is what it expects."""
    refused = _first(operations, lambda entry: entry.outcome == "conflict")
    _replace(operations, refused, expected=refused.head)


def _kept_expectation(operations: list[Operation], _: list[Follower]) -> None:
    """A post succeeds, although the head is not what it expects."""
    post = _first(operations, lambda entry: _appended(entry) and entry.expected is not None)
    _replace(operations, post, expected=post.seq)


def _other_answer(operations: list[Operation], _: list[Follower]) -> None:
    """A repeated post is answered with another seq than the first."""
    repeat = _first(operations, lambda entry: entry.repeated and entry.head > entry.seq)
    _replace(operations, repeat, seq=repeat.seq + 1)


def _stored_refusal(operations: list[Operation], _: list[Follower]) -> None:
    """A post is stored, although its client was told that nothing was done."""
    requests = [entry.content for entry in operations if entry.kind == "post"]
    post = _first(operations, lambda e: _appended(e) and requests.count(e.content) == 1)
    _replace(operations, post, outcome="refused", error="UNAVAILABLE STORE_BUSY", seq=0, head=0)


def _wrong_content(operations: list[Operation], _: list[Follower]) -> None:
    """A read returns a message with the content of another one."""
    read = _first(operations, lambda entry: entry.kind == "message" and entry.outcome == "ok")
    _replace(operations, read, content=f"{read.content}, but not quite")


def _missed(_: list[Operation], followers: list[Follower]) -> None:
    """A follower misses a message."""
    received = followers[0].received
    del received[len(received) // 2]


def _duplicated(_: list[Operation], followers: list[Follower]) -> None:
    """A follower receives a message twice."""
    received = followers[0].received
    received.insert(len(received) // 2, received[len(received) // 2])


def _swapped(_: list[Operation], followers: list[Follower]) -> None:
    """A follower receives two messages in the wrong order."""
    received = followers[0].received
    at = len(received) // 2
    received[at - 1 : at + 1] = reversed(received[at - 1 : at + 1])


def _incomplete(_: list[Operation], followers: list[Follower]) -> None:
    """A follower does not receive the last message."""
    followers[-1].received.pop()


def _appended(entry: Operation) -> bool:
    """Whether this call is known to have stored its post."""
    return entry.kind == "post" and entry.outcome == "ok" and not entry.repeated


def _first(operations: Iterable[Operation], fitting: Callable[[Operation], bool]) -> Operation:
    found = next(filter(fitting, operations), None)
    if found is None:
        raise ValueError("the history has no operation that could be altered so")
    return found


def _replace(operations: list[Operation], entry: Operation, **fields: object) -> None:
    operations[operations.index(entry)] = dataclasses.replace(entry, **fields)  # type: ignore[arg-type]


#: By name, what the history then tells.
CONTROLS: dict[str, Callable[[list[Operation], list[Follower]], None]] = {
    "lost-post": _lost_post,
    "stored-twice": _stored_twice,
    "one-seq-for-two": _one_seq_for_two,
    "stale-read": _stale_read,
    "false-conflict": _false_conflict,
    "ignored-expectation": _kept_expectation,
    "other-answer": _other_answer,
    "stored-refusal": _stored_refusal,
    "wrong-content": _wrong_content,
    "follower-misses": _missed,
    "follower-repeats": _duplicated,
    "follower-swaps": _swapped,
    "follower-stops": _incomplete,
}


def descriptions() -> Sequence[tuple[str, str]]:
    """Returns each name with what it stands for."""
    return [(name, (control.__doc__ or "").rstrip(".")) for name, control in CONTROLS.items()]
