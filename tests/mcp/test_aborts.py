"""Hosts that cancel calls which have been answered."""

import pytest

from bus_client import BusClient
from tests.mcp.host import Host

ABORT = "AbortError: The operation was aborted."
TIMEOUT = "McpError: MCP error -32001: Request timed out"


@pytest.mark.parametrize(
    ("client", "reason", "again"),
    [
        ("opencode", ABORT, False),
        ("opencode", TIMEOUT, True),
        ("opencode", "", True),
        ("another", ABORT, True),
    ],
)
async def test_a_cancelled_answer_is_given_again_unless_the_host_aborts_every_call(
    host: Host, peer: BusClient, name: str, client: str, reason: str, again: bool
) -> None:
    await host.request("initialize", clientInfo={"name": client, "version": "1"})
    await host.call("bus_join", thread=name)
    thread = peer.thread(name)
    await thread.post("the first")
    waiting = host.start_call("bus_wait")
    assert "the first" in (await host.answer(waiting)).text
    host.cancel(waiting, reason)
    await thread.post("the second")
    text = await host.call("bus_wait")
    assert ("the first" in text, "the second" in text) == (again, True)
