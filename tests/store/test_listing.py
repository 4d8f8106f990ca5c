"""The list of threads: its order, pages and filters."""

from typing import Any

from bus_server.store import LeaveThread, ThreadPageKey
from bus_server.store.interface import Store
from tests.store.commits import (
    STATES,
    commit,
    create,
    join,
    listed,
    post,
    register,
    set_state,
)
from threadbus.v1.thread_pb2 import (
    THREAD_STATE_ARCHIVED,
    THREAD_STATE_CLOSED,
    THREAD_STATE_OPEN,
    Thread,
)


async def page(
    store: Store, limit: int, after: ThreadPageKey | None = None, **filters: Any
) -> list[tuple[Thread, ThreadPageKey]]:
    """Returns a page of threads in any state."""
    asked = {"states": STATES, "prefix": "", "participant": ""} | filters
    return await store.list_threads(**asked, limit=limit, after=after)


async def test_threads_are_listed_last_active_first(store: Store) -> None:
    for name in "abcde":
        await commit(store, create(name))
    assert await listed(store) == list("edcba")
    await commit(store, post("b"))
    await commit(store, join("c"), register())
    await commit(store, set_state("a"))
    assert await listed(store) == list("abedc")
    await commit(store, post("d"), post("e"), post("d"))  # one commit: the newer thread first
    assert await listed(store) == list("edabc")


async def test_each_thread_is_listed_with_its_key_in_descending_order(store: Store) -> None:
    names = [f"t{number}" for number in range(10)]
    await commit(store, *map(create, names[:5]))
    await commit(store, *map(create, names[5:]), *map(post, names[::2]))
    found = await page(store, 100)
    keys = [key for _, key in found]
    assert keys == sorted(set(keys), reverse=True)
    heads = await store.heads(names)
    for thread, key in found:
        assert key.thread_id == heads[thread.name].thread_id
    threads = {thread.name: thread for thread in await store.threads(names)}
    assert {thread.name: thread for thread, _ in found} == threads


async def test_pages_hold_each_thread_once(store: Store) -> None:
    for name in "abcd":
        await commit(store, create(name))
    await commit(store, *map(create, "efg"))
    for size in (1, 2, 3, 7, 8):
        found: list[str] = []
        after = None
        while part := await page(store, size, after):
            assert len(part) <= size
            found += [thread.name for thread, _ in part]
            after = part[-1][1]
        assert found == list("gfedcba"), size


async def test_a_thread_that_moved_to_the_front_is_not_on_later_pages(store: Store) -> None:
    for name in "abcd":
        await commit(store, create(name))
    _, (_, after) = await page(store, 2)
    await commit(store, post("b"))
    assert [thread.name for thread, _ in await page(store, 10, after)] == ["a"]
    assert await listed(store) == list("bdca")


FILTERS: list[tuple[dict[str, Any], list[str]]] = [
    ({"states": [THREAD_STATE_OPEN]}, ["b", "A", "a-b", "a"]),
    ({"states": [THREAD_STATE_CLOSED, THREAD_STATE_ARCHIVED]}, ["archived", "closed"]),
    ({"states": []}, []),
    ({"prefix": "a"}, ["archived", "a-b", "a"]),
    ({"prefix": "a-b"}, ["a-b"]),
    ({"prefix": "A"}, ["A"]),
    ({"prefix": "_"}, []),
    ({"participant": "ann"}, ["closed", "b", "a"]),
    ({"participant": "ben"}, []),
    ({"participant": "ann", "prefix": "a"}, ["a"]),
    ({"participant": "ann", "states": [THREAD_STATE_CLOSED]}, ["closed"]),
    ({"prefix": "a", "states": [THREAD_STATE_OPEN, THREAD_STATE_CLOSED]}, ["a-b", "a"]),
]


async def test_filters_choose_threads(store: Store) -> None:
    for name in ("a", "a-b", "A", "b", "closed", "archived"):
        await commit(store, create(name))
    await commit(store, *map(join, ("a", "b", "closed")))
    await commit(store, join("A", "ben"), LeaveThread("A", "ben"))
    await commit(store, set_state("closed"))
    await commit(store, set_state("archived", THREAD_STATE_ARCHIVED))
    for filters, found in FILTERS:
        first = await page(store, 1, **filters)
        rest = await page(store, 10, first[0][1], **filters) if first else []
        assert [thread.name for thread, _ in first + rest] == found, filters
        whole = await page(store, 10, **filters)
        assert whole == first + rest, filters
