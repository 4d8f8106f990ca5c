"""`threadbus mcp` and clients that cancel calls which have been answered."""

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bus_client.sync import BusClient
from tests.serving import ServerProcess

pytestmark = pytest.mark.slow


class McpClient:
    """A client that is connected to a bridge by pipes."""

    def __init__(self, process: "subprocess.Popen[str]", name: str) -> None:
        assert process.stdin
        assert process.stdout
        self._input, self._output = process.stdin, process.stdout
        self._ids = itertools.count(1)
        self.last = 0
        version = {"protocolVersion": "2025-11-25", "capabilities": {}}
        self.request("initialize", version | {"clientInfo": {"name": name, "version": "1"}})

    def request(self, method: str, params: dict[str, Any]) -> Any:
        """Returns the result of a request."""
        self.last = next(self._ids)
        self._send({"id": self.last, "method": method, "params": params})
        return json.loads(self._output.readline())["result"]

    def call(self, tool: str, **arguments: Any) -> str:
        """Returns the text that a call returns."""
        result = self.request("tools/call", {"name": tool, "arguments": arguments})
        assert not result["isError"], result
        return str(result["content"][0]["text"])

    def cancel(self, reason: str) -> None:
        """Cancel the last call, which has been answered."""
        params = {"requestId": self.last, "reason": reason}
        self._send({"method": "notifications/cancelled", "params": params})

    def _send(self, message: dict[str, Any]) -> None:
        print(json.dumps({"jsonrpc": "2.0", **message}), file=self._input, flush=True)


@pytest.fixture
def bridge(server: ServerProcess, name: str, tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """A bridge for an agent."""
    arguments = ["mcp", "--as", f"{name}-agent", "--server", server.address]
    process = subprocess.Popen(
        [sys.executable, "-m", "bus_client.cli", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"HOME": str(tmp_path), "PYTHONPATH": ":".join(filter(None, sys.path))},
    )
    with process:
        yield process
        process.kill()


@pytest.fixture
def peer(server: ServerProcess, name: str, tmp_path: Path) -> Iterator[BusClient]:
    """Another agent."""
    credentials = tmp_path / "peer.json"
    with BusClient(server.address, agent=f"{name}-peer", credentials=credentials) as peer:
        yield peer


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
def test_messages_of_a_cancelled_wait_come_again_unless_the_client_aborts_every_call(
    bridge: "subprocess.Popen[str]",
    peer: BusClient,
    name: str,
    client: str,
    reason: str,
    again: bool,
) -> None:
    host = McpClient(bridge, client)
    host.call("bus_join", thread=name)
    thread = peer.join(name)
    thread.post("the first")
    assert "the first" in host.call("bus_wait")
    host.cancel(reason)
    thread.post("the second")
    text = host.call("bus_wait")
    assert ("the first" in text, "the second" in text) == (again, True)
