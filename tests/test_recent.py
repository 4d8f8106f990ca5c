"""Recent: the cache of the newest messages; what is missing in it is in the store."""

from bus_server.recent import OVERHEAD, Recent, RecentStatistics
from bus_server.store import Row
from threadbus.v1.message_pb2 import Message

PLENTY = 1 << 20


def rows(*seqs: int, size: int = 20) -> dict[int, Row]:
    return {seq: ("coder", b"%d" % seq + b"x" * size) for seq in seqs}


def kept(recent: Recent, after: int, upto: int, epoch: str = "one") -> list[int]:
    found, size = recent.read(epoch, after, upto, PLENTY)
    assert size == sum(len(body) for _, body in found)
    return [int(body.rstrip(b"x")) for _, body in found]


def test_a_run_ends_where_another_servers_message_is_missing() -> None:
    recent = Recent(PLENTY)
    recent.add("one", rows(5, 6, 8, 9))
    assert kept(recent, 4, 9) == [5, 6]
    assert kept(recent, 6, 9) == []
    assert kept(recent, 7, 9) == [8, 9]


def test_the_oldest_are_evicted_first_and_leave_nothing() -> None:
    recent = Recent(9_000)
    recent.add("one", rows(1, 2))
    recent.add("two", rows(1, 3))
    recent.add("one", rows(3, 4))
    assert kept(recent, 0, 4) == []
    assert kept(recent, 2, 4) == [3, 4]
    assert kept(recent, 0, 3, epoch="two") == [1]
    recent.add("one", rows(5, size=9_000))
    assert kept(recent, 2, 5) == kept(recent, 0, 3, epoch="two") == []
    recent.add("one", rows(6))
    assert kept(recent, 5, 6) == [6]


def test_evicted_messages_may_be_cached_again() -> None:
    recent = Recent(7_600)
    recent.add("one", rows(1, 2))
    recent.clear()
    assert kept(recent, 0, 2) == []
    for first in range(1, 20, 2):
        recent.add("one", rows(first, first + 1))
    assert kept(recent, 16, 20) == [17, 18, 19, 20]


def test_edits_are_applied_to_cached_messages() -> None:
    recent = Recent(PLENTY)
    body = Message(content="frist").SerializeToString()
    recent.add("one", {1: ("coder", body), 2: ("coder", body)})
    recent.add("two", {1: ("coder", body)})
    recent.edit("one", {1: 3})
    recent.edit("one", {1: 5, 3: 6})
    edited = Message(content="frist", edit_seq=5), Message(content="frist")
    for epoch, messages in {"one": edited, "two": edited[1:], "three": ()}.items():
        found, _ = recent.read(epoch, 0, 3, PLENTY)
        assert [Message.FromString(body) for _, body in found] == list(messages)


def test_bytes_that_edits_add_count_and_evict_the_oldest() -> None:
    recent = Recent(5 * OVERHEAD + 250)
    recent.add("one", rows(1))
    recent.add("two", rows(1, 2, 3, 4, size=30))
    for edit_seq in range(5, 70):
        recent.edit("two", {2: edit_seq})
        cached = [recent.read(epoch, 0, 4, PLENTY) for epoch in ("one", "two")]
        held = sum(size + OVERHEAD * len(found) for found, size in cached)
        assert recent.statistics().bytes == held <= 5 * OVERHEAD + 250
    assert kept(recent, 0, 1) == []
    assert recent.statistics().messages == 4
    recent.add("two", rows(5, size=8_000))
    assert recent.statistics() == RecentStatistics(threads=0, messages=0, bytes=0)


def test_a_row_that_is_added_again_counts_once() -> None:
    recent = Recent(PLENTY)
    for size in (10, 30, 20):
        recent.add("one", rows(1, size=size))
        assert recent.statistics().bytes == OVERHEAD + 1 + size
    recent.add("one", rows(2, size=PLENTY))
    assert recent.statistics() == RecentStatistics(threads=0, messages=0, bytes=0)


def test_a_run_ends_when_it_is_large_enough_but_never_before_its_first() -> None:
    recent = Recent(PLENTY)
    recent.add("one", rows(1, 2, 3, size=1_000))
    for most in (1, 1_500):
        found, size = recent.read("one", 0, 3, most)
        assert [len(body) for _, body in found] == [1_001] == [size]
    found, size = recent.read("one", 0, 3, 2_500)
    assert [len(body) for _, body in found] == [1_001, 1_001]
    assert size == 2_002
