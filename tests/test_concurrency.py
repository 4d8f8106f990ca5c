"""Concurrent calls: acknowledged posts are stored in one order, each once."""

import asyncio

import pytest

from tests.ledger import Ledger, history, outcome
from tests.refusals import Refusal
from tests.serving import BusStub, ThreadStub
from threadbus.v1.bus_service_pb2 import PostMessageRequest, PostMessageResponse
from threadbus.v1.thread_service_pb2 import CreateThreadRequest

POSTERS = 50


@pytest.mark.slow
@pytest.mark.parametrize("spread", [1, POSTERS], ids=["one_thread", "fifty_threads"])
async def test_acknowledged_posts_of_fifty_posters_are_stored_once_without_gaps(
    bus: BusStub, threads: ThreadStub, name: str, spread: int
) -> None:
    names = [f"{name}-{n}" for n in range(spread)]
    for thread in names:
        await threads.CreateThread(CreateThreadRequest(thread=thread))
    ledger = Ledger()

    async def poster(number: int) -> None:
        for n in range(20):
            await ledger.post(bus, names[number % spread], f"{number}-{n}")

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        for number in range(POSTERS):
            group.create_task(poster(number))

    assert len(ledger) == POSTERS * 20
    for thread in names:
        ledger.check(thread, await history(bus, thread))


@pytest.mark.slow
async def test_of_two_posts_with_one_expectation_exactly_one_wins_a_thousand_times(
    bus: BusStub, threads: ThreadStub, name: str
) -> None:
    async def race(thread: str) -> None:
        await threads.CreateThread(CreateThreadRequest(thread=thread))
        for head in range(100):
            request = PostMessageRequest(thread=thread, content="me", expected_last_seq=head)
            both = await asyncio.gather(*(outcome(bus.PostMessage(request)) for _ in range(2)))
            assert [o.seq for o in both if isinstance(o, PostMessageResponse)] == [head + 1]
            (lost,) = (o for o in both if isinstance(o, Refusal))
            assert lost.reason == "SEQ_CONFLICT"
            assert lost.metadata == {"expected": str(head), "last_seq": str(head + 1)}

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        for n in range(10):
            group.create_task(race(f"{name}-{n}"))


@pytest.mark.parametrize("expected", [None, 0], ids=["unconditional", "conditional"])
async def test_one_post_sent_twenty_times_concurrently_is_stored_once(
    bus: BusStub, thread: str, expected: int | None
) -> None:
    request = PostMessageRequest(
        thread=thread, content="once", request_id="r", expected_last_seq=expected
    )
    answers = await asyncio.gather(*(bus.PostMessage(request) for _ in range(20)))
    assert {answer.seq for answer in answers} == {1}
    assert {answer.create_time.ToMicroseconds() for answer in answers} == {
        (await history(bus, thread))[0].create_time.ToMicroseconds()
    }
    assert [answer.deduplicated for answer in answers].count(False) == 1
    assert [message.content for message in await history(bus, thread)] == ["once"]


@pytest.mark.parametrize("expected", [None, 0], ids=["unconditional", "conditional"])
async def test_a_retry_after_others_have_posted_returns_the_first_result(
    bus: BusStub, thread: str, expected: int | None
) -> None:
    request = PostMessageRequest(
        thread=thread, content="first", request_id="r", expected_last_seq=expected
    )
    first = await bus.PostMessage(request)
    await bus.PostMessage(PostMessageRequest(thread=thread, content="another"))
    again = await bus.PostMessage(request)
    assert (again.seq, again.create_time) == (first.seq, first.create_time)
    assert (again.deduplicated, again.last_seq) == (True, 2)
    assert len(await history(bus, thread)) == 2


async def test_a_post_whose_caller_disconnected_is_stored_once_or_not_at_all(
    bus: BusStub, thread: str
) -> None:
    ledger = Ledger()
    requests = [
        PostMessageRequest(thread=thread, content=f"gone-{n}", request_id=f"gone-{n}")
        for n in range(100)
    ]
    calls = [bus.PostMessage(request) for request in requests]
    await ledger.post(bus, thread, "stays")  # some of them are in flight by now
    for call in calls:
        call.cancel()
    await ledger.post(bus, thread, "stays too")
    ledger.check(thread, await history(bus, thread), unknown=True)

    for request in requests:  # whatever its outcome
        ledger.ack(thread, request.content, await bus.PostMessage(request))
    ledger.check(thread, await history(bus, thread))
