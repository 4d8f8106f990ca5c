"""Recent: the newest messages, kept in memory; what is missing in it is in the store."""

from bus_server.tail import Recent
from threadbus.v1.message_pb2 import Message

PLENTY = 1 << 20


def messages(*seqs: int, content: str = "x") -> list[Message]:
    return [Message(thread="t", seq=seq, content=content) for seq in seqs]


def kept(recent: Recent, after: int, upto: int, thread_id: int = 1) -> list[int]:
    return [message.seq for message in recent.read(thread_id, after, upto, PLENTY)[0]]


def test_a_run_ends_where_another_servers_message_is_missing() -> None:
    recent = Recent(PLENTY)
    recent.add(1, messages(5, 6, 8, 9))
    assert kept(recent, 4, 9) == [5, 6]
    assert kept(recent, 6, 9) == []
    assert kept(recent, 7, 9) == [8, 9]


def test_the_oldest_go_first_and_leave_nothing() -> None:
    recent = Recent(9_000)
    recent.add(1, messages(1, 2))
    recent.add(2, messages(1, 3))
    recent.add(1, messages(3, 4))
    assert kept(recent, 0, 4) == []
    assert kept(recent, 2, 4) == [3, 4]
    assert kept(recent, 0, 3, thread_id=2) == [1]
    recent.add(1, messages(5, content="x" * 9_000))
    assert kept(recent, 2, 5) == kept(recent, 0, 3, thread_id=2) == []
    recent.add(1, messages(6))
    assert kept(recent, 5, 6) == [6]


def test_what_was_forgotten_may_be_kept_again() -> None:
    recent = Recent(7_600)
    recent.add(1, messages(1, 2))
    recent.clear()
    assert kept(recent, 0, 2) == []
    for first in range(1, 20, 2):
        recent.add(1, messages(first, first + 1))
    assert kept(recent, 16, 20) == [17, 18, 19, 20]


def test_edits_are_noted_in_what_is_kept() -> None:
    recent = Recent(PLENTY)
    recent.add(1, messages(1, 2))
    recent.add(2, messages(1))
    recent.edit(1, {1: 5, 3: 6})
    assert [m.edit_seq for m in recent.read(1, 0, 3, PLENTY)[0]] == [5, 0]
    assert [m.edit_seq for m in recent.read(2, 0, 3, PLENTY)[0]] == [0]


def test_a_run_ends_when_it_is_large_enough_but_never_before_its_first() -> None:
    recent = Recent(PLENTY)
    recent.add(1, messages(1, 2, 3, content="x" * 1_000))
    for most in (1, 1_500):
        run, size = recent.read(1, 0, 3, most)
        assert [m.seq for m in run] == [1]
        assert size == run[0].ByteSize()
    run, size = recent.read(1, 0, 3, 2_500)
    assert [m.seq for m in run] == [1, 2]
    assert size == sum(m.ByteSize() for m in run)
