"""`threadbus mcp` and the command line of the MCP inspector, which people try servers with."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.mcp.command import Command
from tests.mcp.driver import interpreter

pytestmark = pytest.mark.slow

_PROGRAM = (
    "../mcp-node/node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js"
)
_OLD_NODE = "its Node.js is older than 22.19"


def _inspect(command: Command, folder: Path, *arguments: str) -> Any:
    """Returns the result that the inspector prints, which must find no fault."""
    node = interpreter("mcp-node")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True)
    if tuple(map(int, version.stdout.strip("v\n").split("."))) < (22, 19):
        assert os.environ.get("CI") != "true", _OLD_NODE
        pytest.skip(f"the MCP inspector does not run: {_OLD_NODE}")
    config = folder / "mcp.json"
    config.write_text(json.dumps({"mcpServers": {"threadbus": command.entry}}), "utf-8")
    server = ["--config", str(config), "--server", "threadbus"]
    done = subprocess.run(
        [node, node.parent / _PROGRAM, "--cli", *server, "--format", "json", *arguments],
        capture_output=True,
        text=True,
        timeout=50,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "MCP_INSPECTOR_SECRET_STORE": "memory",
        },
    )
    faults = [line for line in done.stderr.splitlines() if "ecret" not in line]
    assert (done.returncode, faults) == (0, [])
    return json.loads(done.stdout)["result"]


def test_the_inspector_finds_no_fault_with_the_tools(command: Command, tmp_path: Path) -> None:
    listed = _inspect(command, tmp_path, "--method", "tools/list", "--strict")
    assert {tool["name"] for tool in listed["tools"]} >= {"bus_join", "bus_wait"}


def test_the_inspector_calls_a_tool(command: Command, tmp_path: Path, thread: str) -> None:
    call = ["--method", "tools/call", "--tool-name", "bus_join", "--tool-arg", f"thread={thread}"]
    result = _inspect(command, tmp_path, *call)
    assert thread in result["content"][0]["text"]
