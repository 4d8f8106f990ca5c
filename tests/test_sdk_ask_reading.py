"""What follow(), wait() and inbox() deliver after ThreadHandle.ask, and what counts as read."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from bus_client import BusClient, ThreadHandle
from bus_client.sync import BusClient as BlockingClient
from tests.asking import asking
from tests.members import contents, member, read_position, take
from tests.polling import until_known
from tests.serving import ServerProcess
from tests.wait_frames import BOUND

pytestmark = pytest.mark.asking_server


@pytest.fixture
async def asker(server: ServerProcess, thread: str, tmp_path: Path) -> AsyncIterator[ThreadHandle]:
    async with member(server.address, thread, tmp_path, role="asker") as handle:
        yield handle


@pytest.fixture
async def reviewer(
    server: ServerProcess, thread: str, tmp_path: Path
) -> AsyncIterator[ThreadHandle]:
    async with member(server.address, thread, tmp_path, role="reviewer") as handle:
        yield handle


async def ask(asker: ThreadHandle, reviewer: ThreadHandle) -> int:
    """Ask, while others post, and get a reply. Returns the seq of the question."""
    async with asking(asker, "reviewer") as question:
        seq = await question.posted()
        await reviewer.post("between")
        await reviewer.post("yes", reply_to=seq)
        assert await question.reply() == "yes"
        await reviewer.post("after")
    return seq


async def test_a_follow_skips_the_reply_and_nothing_else(
    asker: ThreadHandle, reviewer: ThreadHandle
) -> None:
    await reviewer.post("before")
    await reviewer.post("task")
    async with aclosing(asker.follow()) as messages:
        assert await take(messages, 2) == ["before", "task"]
        await ask(asker, reviewer)
        assert asker.position.after_seq == 1
        assert await take(messages, 2) == ["between", "after"]


async def test_a_new_follow_and_a_wait_do_so_too(
    asker: ThreadHandle, reviewer: ThreadHandle
) -> None:
    await reviewer.post("before")
    await ask(asker, reviewer)
    assert asker.position.after_seq == 0
    async with aclosing(asker.follow(acknowledge=False)) as messages:
        assert await take(messages, 3) == ["before", "between", "after"]
    assert contents(await asker.wait(timeout=60, min_messages=1)) == ["after"]


async def test_a_wait_goes_on_after_the_reply(asker: ThreadHandle, reviewer: ThreadHandle) -> None:
    async with asking(asker, "reviewer") as question:
        await reviewer.post("yes", reply_to=await question.posted())
        await question.task
    assert await asker.wait(timeout=0) == []
    waiting = asyncio.create_task(asker.wait(timeout=60))
    await reviewer.post("after")
    assert contents(await waiting) == ["after"]


async def test_the_own_entries_and_the_reply_can_be_followed(
    asker: ThreadHandle, reviewer: ThreadHandle
) -> None:
    await ask(asker, reviewer)
    async with aclosing(asker.follow(include_own=True)) as messages:
        assert await take(messages, 4) == ["?", "between", "yes", "after"]


async def test_an_inbox_of_the_client_skips_the_reply(
    server: ServerProcess, thread: str, reviewer: ThreadHandle, tmp_path: Path
) -> None:
    credentials, name = tmp_path / "inbox.json", f"{thread}-inbox"
    async with BusClient(server.address, agent=name, credentials=credentials) as bus:
        asker = bus.thread(thread)
        async with aclosing(bus.inbox()) as messages:
            await reviewer.post("task", mentions=[name])
            assert await take(messages, 1) == ["task"]
            await ask(asker, reviewer)
            await reviewer.post("next", mentions=[name])
            assert await take(messages, 1) == ["next"]


async def test_notices_that_it_raised_do_not_come_again(
    asker: ThreadHandle, reviewer: ThreadHandle
) -> None:
    async with asking(asker, "reviewer") as question:
        await question.posted()
        await reviewer.leave()
        assert (await question.unanswered()).reason == "AGENT_LEFT"
    await reviewer.post("after")
    assert contents(await asker.wait(timeout=60)) == ["after"]


async def test_the_reply_counts_as_read_if_all_before_it_is(
    server: ServerProcess, asker: ThreadHandle, reviewer: ThreadHandle, tmp_path: Path
) -> None:
    for _ in range(2):
        async with asking(asker, "reviewer") as question:
            await reviewer.post("yes", reply_to=await question.posted())
            reply = await question.task
    assert asker.position.after_seq == 0

    async def is_read() -> bool:
        return await read_position(server.address, asker.name, tmp_path, role="asker") == reply.seq

    async with asyncio.timeout(BOUND):
        await until_known(is_read)


async def test_the_reply_does_not_count_as_read_after_what_was_not(
    server: ServerProcess, thread: str, asker: ThreadHandle, reviewer: ThreadHandle, tmp_path: Path
) -> None:
    await reviewer.post("before")
    async with asking(asker, "reviewer") as question:
        await reviewer.post("yes", reply_to=await question.posted())
        await question.task
    await asker.acknowledge()
    assert await read_position(server.address, thread, tmp_path, role="asker") == 0


async def test_the_reply_does_not_count_as_read_after_what_was_not_reported(
    server: ServerProcess, thread: str, reviewer: ThreadHandle, tmp_path: Path
) -> None:
    await reviewer.post("before")
    async with member(server.address, thread, tmp_path, role="asker") as asker:
        assert contents(await asker.wait(timeout=60, acknowledge=False)) == ["before"]
        assert asker.position.after_seq == 1
        async with asking(asker, "reviewer") as question:
            await reviewer.post("yes", reply_to=await question.posted())
            await question.task
    assert await read_position(server.address, thread, tmp_path, role="asker") == 0


def test_the_blocking_client_asks(server: ServerProcess, name: str, tmp_path: Path) -> None:
    credentials = tmp_path / "credentials.json"
    with (
        BlockingClient(server.address, agent=f"{name}-asker", credentials=credentials) as bus,
        BlockingClient(server.address, agent=f"{name}-other", credentials=credentials) as other,
    ):
        thread = bus.join(name)
        seq = thread.post("?", ask=[other.agent], request_id="once").seq
        other.thread(name).post("yes", reply_to=seq)
        reply = thread.ask("?", of=other.agent, request_id="once")
        assert (reply.content, reply.reply_to) == ("yes", seq)
