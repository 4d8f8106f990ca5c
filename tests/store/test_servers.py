"""Servers on a store, and the open waits that they write."""

from bus_server.store import Commit, RemoveServers, SaveServer
from bus_server.store.interface import Store
from tests.store.commits import commit, create, post
from threadbus.v1.admin_service_pb2 import Wait


def wait(agent: str) -> bytes:
    return Wait(agent=agent, peer="\0").SerializeToString()


async def waits(store: Store, server: str, known: frozenset[int] = frozenset()) -> dict[int, str]:
    """Returns the agents of a server's waits by number; "" for those that are known."""
    numbers, new = await store.server_waits(server, known)
    assert not new.keys() & known
    assert numbers == new.keys() | (known & numbers)
    return {number: new[number].agent if number in new else "" for number in numbers}


async def test_a_servers_waits_are_added_and_removed(store: Store) -> None:
    await commit(store, SaveServer("a", 1, {1: wait("ann"), 2: wait("ben")}))
    assert await waits(store, "a") == {1: "ann", 2: "ben"}
    await commit(store, SaveServer("a", 1, {3: wait("cat")}, [1]))
    assert await waits(store, "a") == {2: "ben", 3: "cat"}
    assert await waits(store, "a", frozenset({1, 2})) == {2: "", 3: "cat"}
    assert await waits(store, "b") == {}


async def test_each_server_has_its_own(store: Store) -> None:
    saves = [SaveServer(server, 1, {1: wait(server)}) for server in "ab"]
    await commit(store, *saves, SaveServer("b", 1, {}, [1]))
    assert await waits(store, "a") == {1: "a"}
    assert await waits(store, "b") == {}


async def test_a_wait_that_is_stored_can_be_stored_again(store: Store) -> None:
    for _ in range(2):
        await commit(store, SaveServer("a", 1, {1: wait("ann")}))
    assert await waits(store, "a") == {1: "ann"}


async def test_a_save_tells_whether_the_server_was_stored(store: Store) -> None:
    first, second = SaveServer("a", 1), SaveServer("b", 1)
    assert await commit(store, first, first, second) == [False, True, False]
    assert await commit(store, first) == [True]
    assert await commit(store, RemoveServers({"a": None}), first, second) == [None, False, True]


async def test_each_save_renews_the_lease(store: Store) -> None:
    times = []
    for lease in (5, 6, 6):
        await commit(store, SaveServer("a", lease))
        found = await store.servers()
        assert found["a"].lease == lease
        times.append(found["a"].renew_time)
    assert times == sorted(set(times))
    assert abs(times[-1] - store.clock.now()) < 10_000_000


async def test_a_removed_server_leaves_no_waits(store: Store) -> None:
    await commit(store, *(SaveServer(name, 1, {1: wait("ann")}) for name in "abc"))
    await commit(store, RemoveServers(dict.fromkeys(["a", "c", "unknown"])))
    assert (await store.servers()).keys() == {"b"}
    assert [await waits(store, name) for name in "abc"] == [{}, {1: "ann"}, {}]
    await commit(store, SaveServer("a", 1))
    assert await waits(store, "a") == {}


async def test_a_server_that_has_renewed_its_lease_is_not_removed(store: Store) -> None:
    await commit(store, SaveServer("a", 1, {1: wait("ann")}))
    before = (await store.servers())["a"].renew_time
    await commit(store, SaveServer("a", 1))
    await commit(store, RemoveServers({"a": before}))
    assert await waits(store, "a") == {1: "ann"}
    await commit(store, RemoveServers({"a": (await store.servers())["a"].renew_time}))
    assert await store.servers() == {}
    assert await waits(store, "a") == {}


async def test_waits_that_cannot_be_read_are_left_out(store: Store) -> None:
    late = Wait(agent="ann")
    late.start_time.seconds = 1 << 60
    bodies = {1: b"\xff", 2: wait("ann"), 3: late.SerializeToString(), 4: b""}
    await commit(store, SaveServer("a", 1, bodies))
    assert await waits(store, "a") == {2: "ann", 4: ""}
    assert await waits(store, "a", frozenset({2})) == {2: "", 4: ""}


async def test_a_server_that_is_saved_and_removed_in_one_batch_is_removed(store: Store) -> None:
    save = SaveServer("a", 1, {1: wait("ann")})
    await commit(store, save, RemoveServers({"a": None}))
    assert await store.servers() == {}
    assert await waits(store, "a") == {}
    await commit(store, RemoveServers({"a": None}), save)
    assert await waits(store, "a") == {1: "ann"}


async def test_another_store_sees_them(store: Store, other: Store) -> None:
    version = await other.foreign_version()
    await commit(store, SaveServer("a", 1, {1: wait("ann")}))
    assert await other.foreign_version() != version
    assert await other.servers() == await store.servers()
    assert await waits(other, "a") == {1: "ann"}


async def test_a_commit_tells_whether_it_concerns_agents(store: Store) -> None:
    async def concerns(*commands: SaveServer | RemoveServers) -> bool:
        done: Commit = await store.commit(commands)
        return done.agents_changed

    assert await concerns(SaveServer("a", 1))
    assert await concerns(RemoveServers({"a": None}))
    await commit(store, create())
    assert not (await store.commit([post()])).agents_changed
