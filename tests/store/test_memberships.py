"""In which threads agents take part, and which threads were active, as every engine reads it."""

from bus_server.store import LeaveThread, Membership
from bus_server.store.interface import Store
from tests.store.commits import commit, create, join, post, register, set_state


async def test_the_threads_of_an_agent_are_read_page_by_page(store: Store) -> None:
    await commit(store, register("ann"), register("bob"))
    names = [f"t{number}" for number in range(5)]
    for name in names:
        await commit(store, create(name), join(name, "ann"), post(name, "bob"))
    await commit(store, LeaveThread("t2", "ann"))
    found, after = [], 0
    while page := await store.memberships("ann", after, 2):
        assert len(page) <= 2
        found += page
        after = page[-1][1].thread_id
    assert [name for name, *_ in found] == ["t0", "t1", "t3", "t4"]
    heads = await store.heads(names)
    assert [head for _, head, _ in found] == [heads[name] for name, *_ in found]
    assert {membership for *_, membership in found} == {Membership(0, 0, 0)}


async def test_a_membership_has_what_was_read_and_addressed(store: Store) -> None:
    await commit(store, register("ann"), register("bob"), create())
    await commit(store, post(), post(sender="bob", mentions=["ann"]), post(sender="bob"))
    ((_, _, membership),) = await store.memberships("ann", 0, 10)
    assert membership == Membership(read_seq=1, passed_over=0, addressed_seq=2)
    await commit(store, post(sender="bob", reply_to=1, wakes=4))
    ((_, _, membership),) = await store.memberships("ann", 0, 10)
    assert membership.addressed_seq == 4


async def test_only_the_agents_asked_for_are_members(store: Store) -> None:
    await commit(store, *map(register, ("ann", "bob", "cat")), create("a"), create("b"))
    await commit(store, join("a", "ann"), join("a", "bob"), join("b", "ann"), join("b", "cat"))
    assert await store.members(["a", "b", "none"], ["bob", "cat", "dan"]) == {
        "a": {"bob": Membership(0, 0)},
        "b": {"cat": Membership(0, 0)},
    }
    assert await store.members([], ["bob"]) == {}


async def test_what_was_active_since_a_call_is_returned_by_the_next(store: Store) -> None:
    await commit(store, *map(create, ("a", "b", "c")))
    _, since = await store.recently_active(0)
    await commit(store, post("a"))
    await commit(store, set_state("b"))
    names, later = await store.recently_active(since)
    assert {"a", "b"} <= set(names)
    assert later >= since


async def test_an_empty_store_has_no_activity(store: Store) -> None:
    assert await store.recently_active(0) == ([], 0)
