"""How much a store holds, in numbers."""

from bus_server.store import Checkpoint, DeleteThread, UnregisterAgent, Withdraw
from bus_server.store.interface import Store
from tests.store.commits import commit, create, post, register, sighting
from threadbus.v1.agent_pb2 import (
    PRESENCE_IDLE,
    PRESENCE_LAPSED,
    PRESENCE_UNSPECIFIED,
    PRESENCE_WAITING,
    PRESENCE_WORKING,
)
from threadbus.v1.message_pb2 import ExpectReply


async def test_threads_and_open_requests_are_counted(store: Store) -> None:
    empty = await store.figures({})
    assert (empty.threads, empty.open_requests, empty.overdue_requests) == (0, 0, 0)
    await commit(store, create("a"), create("b"), create("c"), register(), register("ben"))
    await commit(store, DeleteThread("c"))
    soon, later = ExpectReply(agents=["ben"]), ExpectReply(agents=["ben"])
    soon.within.nanos, later.within.seconds = 1_000, 3_600
    never = ExpectReply(agents=["ben"])
    for expected in (soon, later, never, never):
        (done,) = await commit(
            store, post("a", mentions=["ben"], expect_reply=expected, reply_to=0)
        )
    await commit(store, Withdraw("a", done.seq, "ann", operator=False))
    found = await store.figures({})
    assert (found.threads, found.open_requests, found.overdue_requests) == (2, 3, 1)
    assert found.size > 0


async def test_registered_agents_are_counted_by_what_is_known_of_their_presence(
    store: Store,
) -> None:
    names = ("ann", "ben", "cleo", "dan", "eve", "gone")
    await commit(store, *map(register, names))
    seen = store.clock.now()
    lapsed = {"lease_end_time": seen - 1, "reported": PRESENCE_UNSPECIFIED}
    rows = [sighting("ann", seen), sighting("ben", seen), sighting("gone", seen)]
    rows += [sighting("cleo", seen, **lapsed), sighting("dan", seen, **lapsed)]
    await commit(store, Checkpoint(rows, {}), UnregisterAgent("gone"))
    assert (await store.figures({})).agents == {
        PRESENCE_UNSPECIFIED: 1,
        PRESENCE_WORKING: 2,
        PRESENCE_LAPSED: 2,
    }
    known = {"ben": PRESENCE_WAITING, "eve": PRESENCE_IDLE, "operator": PRESENCE_IDLE}
    known |= {"gone": PRESENCE_IDLE, "dan": PRESENCE_UNSPECIFIED, "ann": PRESENCE_UNSPECIFIED}
    assert (await store.figures(known)).agents == {
        PRESENCE_WORKING: 1,  # ann, as stored
        PRESENCE_WAITING: 2,  # ben; and dan, instead of LAPSED
        PRESENCE_IDLE: 1,
        PRESENCE_LAPSED: 1,
    }
