"""The check of `scripts/failover`: it finds each way in which posts or readers can go wrong."""

import importlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from threadbus.v1.message_pb2 import Message

FOLDER = Path(__file__).parents[2] / "scripts/failover.d"
_OLD, _NEW = "0123456789abcdef", "fedcba98.2.01234567"


@pytest.fixture(scope="module")
def checker() -> Iterator[Any]:
    sys.path.insert(0, str(FOLDER))
    try:
        yield importlib.import_module("checker")
    finally:
        sys.path.pop(0)


def log(contents: str) -> list[Message]:
    """Returns messages whose contents are single letters."""
    return [
        Message(thread="t", seq=seq, content=content)
        for seq, content in enumerate(contents, start=1)
    ]


def found(
    checker: Any,
    acknowledged: str,
    stored: Sequence[Message],
    *,
    again: str = "",
    read: str = "",
    resyncs: Sequence[tuple[int, int]] = (),
) -> Any:
    """Returns the verdict about posts.

    They were acknowledged at the seqs from 1 on, and those of `again` after a new epoch, which
    shares two seqs with the old one.
    """
    posts = [(_OLD, seq, content) for seq, content in enumerate(acknowledged, start=1)]
    posts += [(_NEW, seq, content) for seq, content in enumerate(again, start=3)]
    acknowledgements = [
        checker.Acknowledgement("t", content, epoch, seq) for epoch, seq, content in posts
    ]
    reader = checker.Reader("reader", "t")
    for message in log(read) or stored:
        reader.take(message)
    reader.resyncs = list(resyncs)
    return checker.check(acknowledgements, {"t": stored}, [reader])


def test_nothing_is_wrong_with_what_is_stored_and_read_once(checker: Any) -> None:
    verdict = found(checker, "abc", log("abc"))
    assert (verdict.lost, verdict.doubled, verdict.resyncs, verdict.wrong) == (0, 0, 0, [])


def test_what_is_gone_after_a_new_epoch_that_says_so_is_lost_and_not_wrong(checker: Any) -> None:
    verdict = found(checker, "abcd", log("abef"), again="ef", resyncs=[(4, 2)])
    assert (verdict.lost, verdict.renewed, verdict.resyncs, verdict.wrong) == (2, 1, 1, [])


@pytest.mark.parametrize(
    ("verdict", "wrong"),
    [
        ({"acknowledged": "abc", "stored": log("aab")}, "stored twice: a"),
        ({"acknowledged": "ab", "stored": log("abx")}, "1 messages are stored that nobody"),
        ({"acknowledged": "abc", "stored": [log("a")[0], log("abc")[2]]}, "the seqs have gaps"),
        ({"acknowledged": "abcd", "stored": log("axef"), "again": "ef"}, "seq 2 is gone, though"),
        ({"acknowledged": "abc", "stored": log("abc"), "again": "c"}, "seq 3 is kept, though"),
        ({"acknowledged": "abcd", "stored": log("abe"), "again": "ef"}, "'f' was lost after"),
        ({"acknowledged": "abc", "stored": log("abc"), "read": "abb"}, "reader on t has read"),
        ({"acknowledged": "abc", "stored": log("abc"), "read": "ab"}, "reader on t has read"),
        ({"acknowledged": "abc", "stored": log("abc"), "resyncs": [(3, 2)]}, "everything is left"),
        (
            {"acknowledged": "abcd", "stored": log("abe"), "again": "e", "resyncs": [(4, 0)]},
            "was sent from 4 to 0, and 2 is the last",
        ),
    ],
)
def test_what_is_wrong_is_found(checker: Any, verdict: dict[str, Any], wrong: str) -> None:
    assert any(wrong in each for each in found(checker, **verdict).wrong)


def test_a_message_that_comes_out_of_order_is_wrong(checker: Any) -> None:
    reader = checker.Reader("reader", "t")
    for message in (*log("ab"), *log("ab")[1:]):
        reader.take(message)
    assert reader.fault == "seq 2 came after seq 2"
