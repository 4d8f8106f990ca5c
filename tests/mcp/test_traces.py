"""The trace that a model's posts continue."""

from collections.abc import Sequence
from typing import Any

import pytest

from bus_client import BusClient, continue_trace
from tests.mcp.host import Host, bridge_process
from tests.serving import ServerProcess
from tests.test_traceparents import FIRST, SECOND

THIRD = FIRST.replace("4bf92f35", "aaaaaaaa")


async def posted(peer: BusClient, thread: str, *traceparents: str, **options: Any) -> list[int]:
    """Post a message of each of these traces. Returns their seqs."""
    found = []
    for traceparent in traceparents:
        with continue_trace(traceparent):
            found.append((await peer.thread(thread).post("x", **options)).seq)
    return found


async def of_model(peer: BusClient, host_agent: str, thread: str) -> Sequence[str]:
    """Returns the traceparents of what the model has posted."""
    messages = await peer.thread(thread).messages()
    return [message.traceparent for message in messages if message.sender == host_agent]


async def test_a_post_continues_the_trace_of_the_message_that_the_model_was_shown_last(
    host: Host, peer: BusClient, name: str
) -> None:
    await host.call("bus_join", thread=name)
    await host.call("bus_post", text="before any")
    await posted(peer, name, FIRST, SECOND)
    await host.call("bus_post", text="before it was shown")
    await host.call("bus_wait")
    await host.call("bus_post", text="after the second")
    await host.call("bus_post", text="ready?", ask=True, mentions=[f"{name}-peer"])
    await posted(peer, name, FIRST, "")
    await host.call("bus_wait")
    await host.call("bus_post", text="after one of no trace")
    assert await of_model(peer, f"{name}-me", name) == ["", "", SECOND, SECOND, ""]


async def test_a_reply_continues_the_trace_of_the_message_that_it_answers(
    host: Host, peer: BusClient, name: str
) -> None:
    await host.call("bus_join", thread=name)
    first, none, second = await posted(peer, name, FIRST, "", SECOND)
    await host.call("bus_wait")
    (third,) = await posted(peer, name, THIRD, mentions=[f"{name}-me"])
    await host.call("bus_wait", mentions_only=True)
    for seq in (first, none, second, third, 0):
        await host.call("bus_post", text="reply", reply_to=seq)
    traces = await of_model(peer, f"{name}-me", name)
    assert traces == [FIRST, "", SECOND, THIRD, THIRD]


async def test_messages_that_are_read_again_do_not_count(
    host: Host, peer: BusClient, name: str
) -> None:
    await posted(peer, (await peer.join(name)).name, FIRST)
    await host.call("bus_join", thread=name)
    await host.call("bus_read")
    await host.call("bus_post", text="of none")
    await posted(peer, name, SECOND)
    await host.call("bus_wait")
    await host.call("bus_read", seq=1)
    await host.call("bus_post", text="after the second")
    assert await of_model(peer, f"{name}-me", name) == ["", SECOND]


async def test_a_message_that_the_host_has_dropped_was_not_shown(
    host: Host, peer: BusClient, name: str
) -> None:
    await host.call("bus_join", thread=name)
    await posted(peer, name, FIRST)
    await host.call("bus_wait")
    await posted(peer, name, SECOND)
    waiting = host.start_call("bus_wait")
    await host.answer(waiting)
    host.cancel(waiting)
    await host.pinged()
    await host.call("bus_post", text="after the first")
    assert await of_model(peer, f"{name}-me", name) == [FIRST]


async def test_the_trace_of_the_call_comes_before_that_of_a_message(
    host: Host, peer: BusClient, name: str
) -> None:
    await host.call("bus_join", thread=name, meta={"traceparent": THIRD})
    await host.call("bus_post", text="without")
    await posted(peer, name, FIRST)
    await host.call("bus_wait", meta={"traceparent": THIRD})
    await host.call("bus_post", text="with", reply_to=2, meta={"traceparent": SECOND})
    for ignored in ("", "none", f"{SECOND}\n", SECOND.upper(), 1, None, [SECOND]):
        await host.call("bus_post", text="ignored", meta={"traceparent": ignored})
    assert await of_model(peer, f"{name}-me", name) == ["", SECOND, *[FIRST] * 7]


@pytest.mark.slow
async def test_that_of_the_environment_comes_last(
    server: ServerProcess, peer: BusClient, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACEPARENT", THIRD)
    async with bridge_process(server.address, f"{name}-me", "--thread", name) as host:
        await host.call("bus_post", text="of the environment")
        await posted(peer, name, FIRST)
        await host.call("bus_wait")
        await host.call("bus_post", text="of the message")
        await host.call("bus_post", text="of the call", meta={"traceparent": SECOND})
        await posted(peer, name, "")
        await host.call("bus_wait")
        await host.call("bus_post", text="of the environment")
    assert await of_model(peer, f"{name}-me", name) == [THIRD, FIRST, SECOND, THIRD]
