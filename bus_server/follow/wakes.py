"""Which of the messages that a wait delivers wake its caller."""

from collections.abc import Iterable

from bus_server.filter import replies_to
from bus_server.store import Row, may_be_quiet
from bus_server.store.interface import Store
from threadbus.v1.message_pb2 import WAKE_ADDRESSED, WAKE_ALL, WAKE_UNSPECIFIED, Message


async def count_waking(
    store: Store, thread_id: int, rows: Iterable[Row], agent: str, most: int
) -> tuple[int, bool]:
    """Returns how many rows wake a caller, and whether a message of another sender does.

    Looks at no more rows than it must. Raises what the store raises.

    Args:
        thread_id: the id of the thread of all rows.
        agent: the caller's name; empty: it is anonymous.
        most: the number up to which it matters how many there are.
    """
    count, work = 0, False
    for row in rows:
        own = row[0] == agent
        if count >= most and (work or own):
            continue
        if may_be_quiet(row[1]) and not await _wakes(store, thread_id, row, agent):
            continue
        count += 1
        work = work or not own
    return count, work


async def _wakes(store: Store, thread_id: int, row: Row, agent: str) -> bool:
    """Returns whether a message wakes an agent; empty: an anonymous caller."""
    sender, body = row
    message = Message.FromString(body)
    if message.wakes in (WAKE_UNSPECIFIED, WAKE_ALL):
        return True
    if message.wakes != WAKE_ADDRESSED or agent in ("", sender):
        return False
    if agent in message.mentions or agent == message.handoff_to:
        return True
    return bool(await replies_to(store, thread_id, agent, [message]))
