"""The SDK continues the trace of the message that a task received last."""

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from bus_client import BusClient, Message, Post, ThreadHandle, continue_trace
from tests import blocking
from tests.members import member
from tests.peers import Peer
from tests.serving import BusStub, ServerProcess
from tests.test_traceparents import FIRST, SECOND, TRACE, post, traceparents
from tests.wait_frames import BOUND


@pytest.fixture
async def agent(server: ServerProcess, thread: str, tmp_path: Path) -> AsyncIterator[ThreadHandle]:
    """An agent in the thread."""
    async with member(server.address, thread, tmp_path) as handle, asyncio.timeout(BOUND):
        yield handle


async def test_a_post_continues_the_trace_of_the_message_that_is_handled(
    bus: BusStub, thread: str, agent: ThreadHandle
) -> None:
    anyone = Peer(bus)
    await agent.post("of no trace")
    for sent in ((FIRST,), (), (SECOND,)):
        await post(anyone, thread, *sent)
    async with aclosing(agent.follow()) as messages:
        for _ in range(3):
            message = await anext(messages)
            await agent.post("here", reply_to=message.seq)
            await asyncio.create_task(agent.post("in a task"))
    await agent.post("after it")
    await agent.update(topic="after it")
    async with aclosing(agent.post_many(["a", Post("b")])) as results:
        assert len([result async for result in results]) == 2
    found = await traceparents(anyone, thread)
    assert found[:4] == ["", FIRST, "", SECOND]
    assert found[4:] == [FIRST, FIRST, "", "", *[SECOND] * 6]


async def test_each_task_continues_the_trace_of_what_it_received(
    bus: BusStub, thread: str, agent: ThreadHandle
) -> None:
    async def handle(message: Message, after: asyncio.Event) -> None:
        await after.wait()
        await agent.post("reply", reply_to=message.seq)

    for sent in (FIRST, SECOND):
        await post(Peer(bus), thread, sent)
    later = asyncio.Event()
    async with aclosing(agent.follow()) as messages:
        tasks = [asyncio.create_task(handle(await anext(messages), later)) for _ in range(2)]
        later.set()
        await asyncio.gather(*tasks)
    replies = [each for each in await Peer(bus).read(thread) if each.reply_to]
    assert {each.reply_to: each.traceparent for each in replies} == {1: FIRST, 2: SECOND}


async def test_wait_inbox_and_ask_are_followed_by_posts_of_the_same_trace(
    server: ServerProcess, bus: BusStub, thread: str, agent: ThreadHandle, tmp_path: Path
) -> None:
    anyone, name = Peer(bus), f"{thread}-other"
    async with BusClient(server.address, agent=name, credentials=tmp_path / "c.json") as other:
        there = await other.join(thread)
        for sent in (FIRST, SECOND):
            await post(anyone, thread, sent)
        assert len(await agent.wait(timeout=BOUND, min_messages=2)) == 2
        await agent.post("to you", mentions=[name])

        async def answer() -> None:
            async with aclosing(other.inbox()) as messages:
                async for message in messages:
                    await there.post(f"reply to {message.content}", reply_to=message.seq)

        answering = asyncio.create_task(answer())
        with continue_trace(FIRST):
            await agent.ask("question", of=name)
        await agent.post("of the reply")
        answering.cancel()
    found = {each.content: each.traceparent for each in (await anyone.read(thread))[2:]}
    assert found == {
        "to you": SECOND,
        "reply to to you": SECOND,
        "question": FIRST,
        "reply to question": FIRST,
        "of the reply": FIRST,
    }


async def test_within_continue_trace_only_that_counts(
    bus: BusStub, thread: str, agent: ThreadHandle
) -> None:
    anyone = Peer(bus)
    await post(anyone, thread, FIRST)
    with continue_trace(SECOND):
        await agent.wait(timeout=BOUND)
        await agent.post("chosen")
        for none in ("", "not valid", "00-\n"):
            with continue_trace(none):
                await agent.post("none")
        await agent.post("chosen")
    await agent.post("received")
    assert await traceparents(anyone, thread) == [FIRST, SECOND, "", "", "", SECOND, FIRST]


async def test_the_blocking_client_does_the_same(
    server: ServerProcess, bus: BusStub, thread: str, tmp_path: Path
) -> None:
    anyone = Peer(bus)
    for sent in (FIRST, SECOND):
        await post(anyone, thread, sent)

    def work() -> None:
        with blocking.member(server.address, thread, tmp_path) as agent:
            for message in agent.follow():
                agent.post("followed", reply_to=message.seq)
                if message.seq == 2:
                    break
            with continue_trace(""):
                agent.post("none")
            list(agent.post_many(["many"]))
        with blocking.member(server.address, thread, tmp_path, role="waiter") as agent:
            assert len(agent.wait(timeout=BOUND, max_messages=1)) == 1
            agent.post("waited")

    await asyncio.to_thread(work)
    assert (await traceparents(anyone, thread))[2:] == [FIRST, SECOND, "", SECOND, FIRST]


@pytest.mark.slow
async def test_a_program_that_instruments_grpc_continues_the_trace(
    server: ServerProcess, bus: BusStub, thread: str, tmp_path: Path
) -> None:
    await post(Peer(bus), thread, FIRST)
    arguments = ("-m", "tests.instrumented_agent", server.address, str(tmp_path), thread)
    agent = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=PIPE)
    async with asyncio.timeout(BOUND):
        printed, _ = await agent.communicate()
    assert agent.returncode == 0
    sent = printed.decode().split()
    assert (await traceparents(Peer(bus), thread))[1:] == sent
    assert [each.split("-")[1] for each in sent] == [TRACE, TRACE]
