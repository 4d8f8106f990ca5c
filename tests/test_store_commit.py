"""Commit.add: what several transactions did, in one."""

from bus_server.store import Commit, Head
from threadbus.v1.thread_pb2 import THREAD_STATE_OPEN


def appended(thread_id: int, seq: int) -> Commit:
    """Returns the Commit of a message appended to thread t."""
    head = Head(thread_id, f"epoch {thread_id}", seq, THREAD_STATE_OPEN)
    return Commit(entries={"t": {seq: ("coder", b"")}}, heads={"t": head})


def test_messages_appended_to_a_thread_stay_in_order() -> None:
    whole = appended(1, 6)
    whole.add(appended(1, 8))
    assert list(whole.entries["t"]) == [6, 8]
    assert whole.heads["t"].seq == 8


def test_a_thread_deleted_and_recreated_has_none_of_the_old_ones_messages() -> None:
    whole = appended(1, 6)
    whole.add(appended(2, 1))
    assert list(whole.entries["t"]) == [1]
    assert whole.heads["t"].thread_id == 2
