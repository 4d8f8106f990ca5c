"""Calls that cross each other, or that the host cancels: nothing is lost, read or posted twice."""

import asyncio
import random

import pytest

from bus_client import BusClient, Presence
from tests.mcp.host import Host, bridge_here
from tests.mcp.test_reading import read_seq
from tests.polling import until_known
from tests.serving import ServerProcess


async def test_threads_may_be_joined_while_a_wait_looks_why_nothing_comes(
    host: Host, name: str
) -> None:
    for number in range(5):
        await host.call("bus_join", thread=f"{name}-{number}")
    waiting = host.start_call("bus_wait", timeout_s=0)
    joining = [host.start_call("bus_join", thread=f"{name}-new-{number}") for number in range(8)]
    assert "No messages" in (await host.answer(waiting)).text
    for number in joining:
        assert not (await host.answer(number)).failed


async def test_a_post_does_not_count_as_read_what_a_wait_returns_beside_it(
    host: Host, peer: BusClient, name: str
) -> None:
    await host.call("bus_join", thread=name)
    await peer.thread(name).post("unread")
    waiting = host.start_call("bus_wait", thread=name)
    nobody = " ".join(f"@{name}-{number}" for number in range(50))  # looked up: it takes longer
    posting = host.start_call("bus_post", text=f"written without it, for {nobody}")
    for number in (waiting, posting):
        await host.answer(number)
    assert await read_seq(peer, name, f"{name}-me") == 0
    host.cancel(waiting)
    assert await host.call("bus_wait", thread=name) == f"#1 {name}-peer: unread"


async def test_a_post_that_was_cancelled_is_stored_once_if_it_is_repeated(
    host: Host, peer: BusClient, name: str
) -> None:
    """Also if an agent that it mentions has registered meanwhile."""
    chance = random.Random(2)  # noqa: S311
    await host.call("bus_join", thread=name)
    thread = await peer.join(name)
    texts = [f"{number} @{name}-{number}" for number in range(30)]
    for number, text in enumerate(texts):
        posting = host.start_call("bus_post", text=text)
        await asyncio.sleep(chance.random() * 0.01)
        host.cancel(posting)
        await host.pinged()
        if host.is_answered(posting):
            continue
        await peer.register_agent(f"{name}-{number}")
        assert f"posted {name} #" in await host.call("bus_post", text=text, thread=name)
    assert [message.content for message in await thread.messages()] == texts


async def test_an_equal_post_to_another_thread_is_another_one(
    host: Host, peer: BusClient, name: str
) -> None:
    await host.call("bus_join", thread=f"{name}-1")
    await host.call("bus_join", thread=name)
    posting = host.start_call("bus_post", text="here")
    host.cancel(posting)
    await host.call("bus_join", thread=f"{name}-1")
    assert f"posted {name}-1 #1" in await host.call("bus_post", text="here")
    assert f"posted {name} #1" in await host.call("bus_post", text="here", thread=name)


async def test_who_was_cancelled_while_it_connected_says_goodbye(
    server: ServerProcess, peer: BusClient, name: str
) -> None:
    async def is_idle() -> bool:
        agents = [agent async for agent in peer.list_agents() if agent.name == f"{name}-me"]
        return [agent.presence for agent in agents] == [Presence.PRESENCE_IDLE]

    async with bridge_here(server.address, f"{name}-me") as host:
        host.cancel(host.start_call("bus_who"))
        await until_known(is_idle)
    assert (await peer.get_agent(f"{name}-me")).presence == Presence.PRESENCE_OFFLINE


async def test_changes_of_a_thread_before_a_post_are_not_called_unread(
    host: Host, peer: BusClient, name: str
) -> None:
    thread = await peer.join(name)
    await host.call("bus_join", thread=name)
    await thread.update(stage="review")
    assert "call bus_wait" not in await host.call("bus_post", text="on it")
    await thread.post("one more")
    assert "You have not read all that is before #4" in await host.call("bus_post", text="done")


async def test_what_was_skipped_stays_read_if_the_wait_before_was_not_taken(
    host: Host, peer: BusClient, name: str
) -> None:
    await host.call("bus_join", thread=name)
    await peer.thread(name).post("skipped")
    waiting = host.start_call("bus_wait")
    await host.answer(waiting)
    await host.call("bus_join", thread=name, catch_up=True)
    host.cancel(waiting)
    assert "No messages" in await host.call("bus_wait", timeout_s=0)
    assert "call bus_wait" not in await host.call("bus_post", text="on it")


@pytest.mark.slow
async def test_a_mention_in_one_of_many_unread_threads_is_not_skipped_by_joining(
    host: Host, peer: BusClient, name: str
) -> None:
    await host.call("bus_who")
    for number in range(102):
        thread = await peer.join(f"{name}-{number}")
        await thread.post("come", mentions=[f"{name}-me"])
    await host.call("bus_join", thread=f"{name}-0")
    text = await host.call("bus_wait", thread=f"{name}-0")
    assert text == f"#1 {name}-peer @{name}-me: come"
