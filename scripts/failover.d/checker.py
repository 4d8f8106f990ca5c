"""Compares what was acknowledged and what was read with what is stored."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from readers import Reader

from bus_server.store.epochs import shared_seq
from threadbus.v1.message_pb2 import Message

#: More than any seq.
_ALL = 2**63


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """The answer to a post."""

    thread: str
    content: str
    epoch: str
    seq: int


@dataclass(slots=True)
class Verdict:
    """What became of the posts, and what is wrong with that."""

    #: How many posts were acknowledged and are not stored at that seq.
    lost: int = 0
    #: How many posts are stored twice, or were acknowledged with two seqs.
    doubled: int = 0
    #: How many readers had something taken back.
    resyncs: int = 0
    #: How many threads got a new epoch.
    renewed: int = 0
    wrong: list[str] = field(default_factory=list)


def check(
    acknowledgements: Sequence[Acknowledgement],
    stored: Mapping[str, Sequence[Message]],
    readers: Iterable[Reader],
) -> Verdict:
    """Returns what became of the posts. Whether anything may be lost is for the caller to judge.

    If it is, the thread's new epoch must say how much is left, and readers of more must have been
    told.

    Args:
        acknowledgements: all that posters got, in the order in which they did.
        stored: the messages of each thread.
        readers: those that have read everything.
    """
    verdict, readers = Verdict(), list(readers)
    for thread, messages in stored.items():
        own = [each for each in acknowledgements if each.thread == thread]
        kept = _kept(thread, own, verdict)
        _check_posts(own, messages, kept, verdict)
        for reader in readers:
            if reader.thread == thread:
                _check_reader(reader, messages, kept, verdict)
    return verdict


def _kept(thread: str, acknowledgements: Sequence[Acknowledgement], verdict: Verdict) -> int:
    """Returns the last seq of the thread's first epoch that its second one has, too."""
    first, *later = dict.fromkeys(each.epoch for each in acknowledgements)
    if not later:
        return _ALL
    verdict.renewed += 1
    shared = shared_seq(later[0], first)
    if shared is None or len(later) > 1:
        verdict.wrong.append(f"{thread} had the epochs {first}, {', '.join(later)}")
    return shared or 0


def _check_posts(
    acknowledgements: Sequence[Acknowledgement],
    messages: Sequence[Message],
    kept: int,
    verdict: Verdict,
) -> None:
    wrong = verdict.wrong
    if [message.seq for message in messages] != list(range(1, len(messages) + 1)):
        wrong.append("the seqs have gaps")
    counts = Counter(message.content for message in messages if message.content)
    twice = {content for content, count in counts.items() if count > 1}
    seqs: dict[tuple[str, str], int] = {}
    first = acknowledgements[0].epoch
    for each in acknowledgements:
        if seqs.setdefault((each.epoch, each.content), each.seq) != each.seq:
            twice.add(each.content)
        there = messages[each.seq - 1].content if each.seq <= len(messages) else ""
        gone = there != each.content
        verdict.lost += gone
        if gone and each.epoch != first:
            wrong.append(f"{each.content!r} was lost after the resync, at seq {each.seq}")
        elif gone and each.seq <= kept < _ALL:
            wrong.append(f"seq {each.seq} is gone, though the epochs share {kept}")
        elif not gone and each.epoch == first and each.seq > kept:
            wrong.append(f"seq {each.seq} is kept, though the epochs share only {kept}")
    if unknown := counts.keys() - {each.content for each in acknowledgements}:
        wrong.append(f"{len(unknown)} messages are stored that nobody knows of")
    if twice:
        wrong.append(f"stored twice: {', '.join(sorted(twice)[:3])}")
    verdict.doubled += len(twice)


def _check_reader(reader: Reader, messages: Sequence[Message], kept: int, verdict: Verdict) -> None:
    name = f"{reader.name} on {reader.thread}"
    verdict.resyncs += len(reader.resyncs)
    if reader.fault:
        verdict.wrong.append(f"{name}: {reader.fault}")
    elif reader.messages != list(messages):
        verdict.wrong.append(
            f"{name} has read {len(reader.messages)} messages, which are not the"
            f" {len(messages)} that are stored"
        )
    left = "everything is left" if kept == _ALL else f"{kept} is the last that is left"
    verdict.wrong += [
        f"{name} was sent from {before} to {after}, and {left}"
        for before, after in reader.resyncs
        # From one epoch to another at the same position: nothing is missing or repeated.
        if before != after and not (before > kept == after)
    ]
