"""Budget: bytes shared by all callers."""

import asyncio
import math

import pytest

from bus_server import budget as budgets
from bus_server.budget import Budget
from bus_server.errors import StoreBusy


def budget(size: int = 100, *, seconds: float = 10) -> Budget:
    return Budget(size, timeout=seconds, what="it")


async def waiting(
    shared: Budget, caller: str, size: int, timeout: float | None = None
) -> "asyncio.Task[None]":
    """Start a taker that has to wait."""
    taker = asyncio.create_task(shared.take(caller, size, timeout))
    await asyncio.sleep(0)
    assert not taker.done()
    return taker


async def test_released_bytes_can_be_taken_again() -> None:
    shared = budget()
    for _ in range(10):
        await shared.take("a", 75)
        shared.give("a", 75)
    await shared.take("b", 100)


async def test_a_caller_that_holds_nothing_gets_bytes_whatever_another_holds() -> None:
    shared = budget()
    await shared.take("greedy", 10)
    while shared.take_now("greedy", 10):
        pass
    taker = await waiting(shared, "greedy", 10)
    for number in range(2):
        await shared.take(f"modest-{number}", 10)
    taker.cancel()


async def test_waiters_are_served_in_turns_by_caller() -> None:
    shared = budget()
    await shared.take("first", 100)
    order: list[str] = []

    async def take(caller: str) -> None:
        await shared.take(caller, 100)
        order.append(caller)
        shared.give(caller, 100)

    takers = [asyncio.create_task(take(caller)) for caller in ("a", "a", "a", "b", "c")]
    await asyncio.sleep(0)
    assert shared.waiting == ["a", "b", "c"]
    shared.give("first", 100)
    async with asyncio.timeout(5):
        await asyncio.gather(*takers)
    assert order == ["a", "b", "c", "a", "a"]


async def test_a_waiter_that_is_cancelled_takes_nothing() -> None:
    shared = budget()
    await shared.take("a", 100)
    taker = await waiting(shared, "b", 50)
    taker.cancel()
    shared.give("a", 100)
    with pytest.raises(asyncio.CancelledError):
        await taker
    assert shared.waiting == []
    assert shared.take_now("c", 100)


async def test_a_waiter_cancelled_just_after_it_was_served_takes_nothing() -> None:
    shared = budget()
    await shared.take("a", 100)
    taker = await waiting(shared, "b", 50)
    shared.give("a", 100)
    taker.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taker
    assert shared.take_now("c", 100)


async def test_waiting_too_long_is_an_error_that_names_the_budget() -> None:
    shared = budget(seconds=0.05)
    await shared.take("a", 100)
    with pytest.raises(StoreBusy, match="no room for it"):
        await shared.take("b", 1)
    shared.give("a", 100)
    assert shared.take_now("b", 100)


async def test_a_claim_beyond_the_limit_takes_the_place_of_the_caller_that_has_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(budgets, "MAX_WAITING", 3)
    shared = budget()
    await shared.take("first", 100)
    older, newer = [await waiting(shared, "greedy", 1) for _ in range(2)]
    other = await waiting(shared, "modest", 1)
    with pytest.raises(StoreBusy, match="too many calls wait"):
        await shared.take("greedy", 1)
    another = await waiting(shared, "third", 1)
    with pytest.raises(StoreBusy, match="too many calls wait"):
        await newer
    shared.give("first", 100)
    async with asyncio.timeout(5):
        await asyncio.gather(older, other, another)


async def test_a_claim_without_a_time_limit_is_never_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(budgets, "MAX_WAITING", 2)
    shared = budget()
    await shared.take("first", 100)
    owed = [await waiting(shared, "greedy", 1, math.inf) for _ in range(4)]
    # They leave others their places, ...
    refusable = [await waiting(shared, "greedy", 1) for _ in range(2)]
    owed.append(await waiting(shared, "greedy", 1, math.inf))
    modest = await waiting(shared, "modest", 1)
    # ... and none of them makes room for another claim.
    with pytest.raises(StoreBusy):
        await refusable[1]
    with pytest.raises(StoreBusy):
        await shared.take("third", 1)
    owed.append(await waiting(shared, "third", 1, math.inf))
    shared.give("first", 100)
    async with asyncio.timeout(5):
        await asyncio.gather(refusable[0], modest, *owed)
    assert shared.waiting == []
