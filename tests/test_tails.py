"""Tails.advance: which of two heads of a name is the later one."""

from bus_server.store import Head
from bus_server.tail import Tails
from threadbus.v1.thread_pb2 import THREAD_STATE_OPEN

OLD, NEW, NEWER = "0123456789abcdef", "fedcba98.1f.01234567", "aaaaaaaa.0.fedcba98"


def head(epoch: str, seq: int, *, thread_id: int = 1) -> Head:
    return Head(thread_id, epoch, seq, THREAD_STATE_OPEN)


async def known_after(*heads: Head) -> Head | None:
    """Returns the head that is known after these were, in this order."""
    tails = Tails()
    waiter = tails.watch(["t"])
    for each in heads:
        await tails.advance("t", each)
    (known,) = tails.heads().values() or [None]
    tails.unwatch(waiter)
    return known


async def test_a_head_only_grows() -> None:
    assert await known_after(head(OLD, 2), head(OLD, 1)) == head(OLD, 2)
    assert await known_after(head(OLD, 1), head(OLD, 2)) == head(OLD, 2)


async def test_a_new_epoch_replaces_the_old_one_whatever_its_head_is() -> None:
    assert await known_after(head(OLD, 50), head(NEW, 31)) == head(NEW, 31)
    assert await known_after(head(OLD, 50), head(NEW, 60)) == head(NEW, 60)
    # Two in one interval of the fallback.
    assert await known_after(head(OLD, 50), head(NEWER, 31)) == head(NEWER, 31)


async def test_a_head_of_the_epoch_before_is_ignored() -> None:
    assert await known_after(head(NEW, 31), head(OLD, 50)) == head(NEW, 31)


async def test_a_later_thread_of_the_name_ends_the_former_one() -> None:
    assert await known_after(head(OLD, 5), head("other", 1, thread_id=2)) is None
    assert await known_after(head("other", 1, thread_id=2), head(OLD, 5)) == (
        head("other", 1, thread_id=2)
    )
