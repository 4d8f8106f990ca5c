"""What a model has read: nothing is lost or skipped, whatever becomes of a call."""

import asyncio
import random
from functools import partial

import pytest

from bus_client import BusClient, Presence
from tests.mcp.host import Host, bridge_here, bridge_process
from tests.polling import until_known
from tests.serving import ServerProcess


async def read_seq(bus: BusClient, thread: str, agent: str) -> int:
    """Returns up to where the agent has read the thread."""
    people = bus.thread(thread).list_participants()
    (found,) = [each async for each in people if each.agent == agent]
    return found.read_seq


async def is_waiting(bus: BusClient, agent: str) -> bool:
    return (await bus.get_agent(agent)).presence == Presence.PRESENCE_WAITING


async def until_waiting(bus: BusClient, agent: str) -> None:
    await until_known(partial(is_waiting, bus, agent))


async def test_messages_count_as_read_with_the_next_wait_or_post(
    host: Host, peer: BusClient, name: str
) -> None:
    await host.call("bus_join", thread=name)
    thread = await peer.join(name)
    await thread.post("1")
    await host.call("bus_wait")
    assert await read_seq(peer, name, f"{name}-me") == 0
    await host.call("bus_who")
    assert await read_seq(peer, name, f"{name}-me") == 0
    await host.call("bus_post", text="2")
    assert await read_seq(peer, name, f"{name}-me") == 2
    await thread.post("3")
    await host.call("bus_wait")
    assert await read_seq(peer, name, f"{name}-me") == 2
    await host.call("bus_wait", timeout_s=0)
    assert await read_seq(peer, name, f"{name}-me") == 3


async def test_a_cancelled_wait_is_not_answered_and_loses_nothing(
    host: Host, peer: BusClient, name: str
) -> None:
    await host.call("bus_join", thread=name)
    cancelled = host.start_call("bus_wait")
    await until_waiting(peer, f"{name}-me")
    host.cancel(cancelled)
    await host.pinged()
    await peer.thread(name).post("here")
    assert await host.call("bus_wait") == f"{name} #1 {name}-peer: here"
    assert host.stray == []


@pytest.mark.parametrize("arguments", [{}, {"mentions_only": True}, {"thread": "{}"}], ids=str)
async def test_an_answer_that_is_cancelled_too_late_comes_again(
    host: Host, peer: BusClient, name: str, arguments: dict[str, str]
) -> None:
    arguments = {key: str(value).format(name) for key, value in arguments.items()}
    await host.call("bus_join", thread=name)
    await peer.thread(name).post("here", mentions=[f"{name}-me"])
    waiting = host.start_call("bus_wait", **arguments)
    first = await host.answer(waiting)
    host.cancel(waiting)
    again = host.start_call("bus_wait", **arguments)
    assert await host.answer(again) == first
    host.cancel(waiting)  # that of an earlier wait: without effect
    assert "No messages" in await host.call("bus_wait", timeout_s=0, **arguments)


async def test_an_agent_whose_answer_was_not_taken_is_idle(
    host: Host, peer: BusClient, name: str
) -> None:
    async def is_idle() -> bool:
        return (await peer.get_agent(f"{name}-me")).presence == Presence.PRESENCE_IDLE

    await host.call("bus_join", thread=name)
    await peer.thread(name).post("here")
    waiting = host.start_call("bus_wait")
    await host.answer(waiting)
    assert not await is_idle()
    host.cancel(waiting)
    await until_known(is_idle)


@pytest.mark.slow
async def test_an_agent_whose_wait_was_cancelled_is_idle(
    host: Host, peer: BusClient, name: str
) -> None:
    """Whether the cancellation comes before, during or after the delivery."""

    async def is_idle() -> bool:
        return (await peer.get_agent(f"{name}-me")).presence == Presence.PRESENCE_IDLE

    chance = random.Random(3)  # noqa: S311
    await host.call("bus_join", thread=name)
    for number in range(1, 41):
        waiting = host.start_call("bus_wait")
        await until_waiting(peer, f"{name}-me")
        posting = asyncio.create_task(peer.thread(name).post(f"{number}"))
        await asyncio.sleep(chance.random() * 0.006)
        host.cancel(waiting)
        await posting
        await until_known(is_idle)
        assert await host.call("bus_wait") == f"{name} #{number} {name}-peer: {number}"


async def test_cancelling_other_calls_takes_nothing_back(
    host: Host, peer: BusClient, name: str
) -> None:
    await host.call("bus_join", thread=name)
    await peer.thread(name).post("here")
    await host.call("bus_wait")
    read = host.start_call("bus_read")
    await host.answer(read)
    for number in (read, 10_000):
        host.cancel(number)
    for requested in (b'"requestId":[]', b'"requestId":true', b'"other":1'):
        host.send(b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{%s}}' % requested)
    assert "No messages" in await host.call("bus_wait", timeout_s=0)


@pytest.mark.slow
async def test_cancelled_waits_beside_a_poster_lose_and_repeat_nothing(
    host: Host, peer: BusClient, name: str
) -> None:
    """The cancellation races with the answer: what was answered before it is looked at is taken."""
    chance = random.Random(0)  # noqa: S311
    await host.call("bus_join", thread=name)
    thread = await peer.join(name)
    lines: list[str] = []
    for number in range(1, 101):
        waiting = host.start_call("bus_wait")
        await until_waiting(peer, f"{name}-me")
        posting = partial(thread.post, f"{number}")
        if chance.random() < 0.5:
            await posting()
            host.cancel(waiting)
        else:
            host.cancel(waiting)
            await posting()
        lines += (await host.call("bus_wait")).splitlines()
    assert lines == [f"{name} #{number} {name}-peer: {number}" for number in range(1, 101)]


@pytest.mark.slow
async def test_what_a_killed_bridge_returned_last_comes_again(
    server: ServerProcess, peer: BusClient, name: str
) -> None:
    async with bridge_process(server.address, f"{name}-me", "--thread", name) as host:
        await host.call("bus_join", thread=name)
        thread = await peer.join(name)
        await thread.post("1")
        await host.call("bus_wait")
        await host.call("bus_wait", timeout_s=0)
        await thread.post("2")
        await host.call("bus_wait")
    async with bridge_here(server.address, f"{name}-me") as host:
        assert await host.call("bus_wait") == f"{name} #2 {name}-peer: 2"


async def test_a_goodbye_does_not_mark_the_last_answer_as_read(
    server: ServerProcess, peer: BusClient, name: str
) -> None:
    async with bridge_here(server.address, f"{name}-me", thread=name) as host:
        await host.call("bus_join", thread=name)
        await peer.thread(name).post("1")
        await host.call("bus_wait")
    async with bridge_here(server.address, f"{name}-me") as host:
        assert await host.call("bus_wait") == f"{name} #1 {name}-peer: 1"


async def test_all_of_a_thread_is_read_once_and_in_order_whatever_its_sizes(
    host: Host, peer: BusClient, name: str
) -> None:
    """Results are bounded, and hold what they say: what does not fit comes with the next one."""
    chance = random.Random(1)  # noqa: S311
    await host.call("bus_join", thread=name)
    thread = await peer.join(name)
    texts = [
        chance.choice(["x", "é", "\u202e", "\x1b", "\n", "字", "a b\n"])
        * chance.choice([1, 30, 400, 2_500, 5_000])
        for _ in range(60)
    ]
    async for _ in thread.post_many(texts):
        pass
    found: list[int] = []
    while len(found) < len(texts):
        text = await host.call("bus_wait", thread=name)
        found += [int(line.split()[0][1:]) for line in text.splitlines() if line.startswith("#")]
    assert found == list(range(1, len(texts) + 1))
    assert "No messages" in await host.call("bus_wait", timeout_s=0)
