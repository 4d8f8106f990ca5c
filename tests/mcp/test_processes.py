"""`threadbus mcp` as a process: its start, its end, and what it writes where."""

import os
import signal
import subprocess
from functools import partial
from pathlib import Path

import pytest

from bus_client import BusClient, Presence
from tests.mcp.command import Command
from tests.mcp.host import Host, bridge_process
from tests.polling import until_known
from tests.serving import ServerProcess
from tests.shell import Shell

pytestmark = pytest.mark.slow


async def has(bus: BusClient, agent: str, presence: Presence.ValueType) -> bool:
    return (await bus.get_agent(agent)).presence == presence


@pytest.mark.parametrize("end", ["input", signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=str)
@pytest.mark.parametrize("waits", [False, True])
async def test_it_says_goodbye(
    server: ServerProcess, peer: BusClient, name: str, end: str | signal.Signals, waits: bool
) -> None:
    agent = f"{name}-me"
    async with bridge_process(server.address, agent, "--thread", name) as host:
        await host.call("bus_who")
        if waits:
            host.start_call("bus_wait", timeout_s=200)
            await until_known(partial(has, peer, agent, Presence.PRESENCE_WAITING))
        if isinstance(end, signal.Signals):
            host.signal(end)
        else:
            host.end_input()
        assert await host.exit_code() == 0
        assert await has(peer, agent, Presence.PRESENCE_OFFLINE)
        assert host.stray == []


async def test_a_call_at_the_end_of_the_input_is_still_answered(
    server: ServerProcess, name: str
) -> None:
    async with bridge_process(server.address, f"{name}-me") as host:
        await host.call("bus_who")  # connects, which takes a busy machine longer than an answer may
        joining = host.start_call("bus_join", thread=name)
        host.end_input()
        assert "new thread" in (await host.answer(joining)).text
        assert await host.exit_code() == 0


def test_a_terminal_is_told_what_starts_it(command: Command) -> None:
    controller, terminal = os.openpty()
    with subprocess.Popen(
        command.line, env=command.environment, stdin=terminal, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert "threadbus install HOST" in process.stderr.readline()
        process.terminate()
        assert process.wait(30) == 0
    os.close(controller)
    os.close(terminal)


async def test_who_only_looks_whether_it_starts_registers_nobody(
    server: ServerProcess, peer: BusClient, name: str
) -> None:
    async with bridge_process(server.address, f"{name}-me") as host:
        response = await host.request("initialize", protocolVersion="2025-06-18")
        assert response["result"]["protocolVersion"] == "2025-06-18"
        assert response["result"]["serverInfo"]["name"] == "threadbus"
        assert f"You are {name}-me." in response["result"]["instructions"]
        host.end_input()
        assert await host.exit_code() == 0
    assert f"{name}-me" not in [agent.name async for agent in peer.list_agents()]


async def test_others_see_an_agent_before_its_first_call(
    server: ServerProcess, peer: BusClient, name: str
) -> None:
    async with bridge_process(server.address, f"{name}-me", "--thread", name) as host:
        await host.request("initialize", protocolVersion="2025-06-18")
        host.send(b'{"jsonrpc":"2.0","method":"notifications/initialized"}')

        async def takes_part() -> bool:
            found = [each.name async for each in peer.list_threads(participant=f"{name}-me")]
            return found == [name]

        await until_known(takes_part)
        assert await has(peer, f"{name}-me", Presence.PRESENCE_IDLE)
        host.end_input()
        assert await host.exit_code() == 0
    assert await has(peer, f"{name}-me", Presence.PRESENCE_OFFLINE)


@pytest.mark.parametrize("version", ["2024-11-05", "2025-11-25", "2026-07-28", "1", None, 3])
async def test_an_unknown_version_of_the_protocol_gets_the_newest(
    host: Host, version: str | int | None
) -> None:
    result = (await host.request("initialize", protocolVersion=version))["result"]
    known = ("2024-11-05", "2025-11-25")
    assert result["protocolVersion"] == (version if version in known else "2025-11-25")
    assert result["capabilities"] == {"tools": {}}


@pytest.mark.parametrize(
    "flags", [("--as", "No One"), ("--as", "system"), ("--as", "ann", "--thread", "no name")]
)
def test_names_that_no_model_could_correct_are_refused_at_the_start(
    server: ServerProcess, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    done = Shell(server.address, tmp_path).run_process("mcp", *flags, stdin="")
    assert done.code == 2
    assert flags[-2] in done.err
    assert done.out == ""


def test_it_needs_a_name(server: ServerProcess, tmp_path: Path) -> None:
    done = Shell(server.address, tmp_path).run_process("mcp", stdin="")
    assert done.code == 2
    assert "Missing agent: add --as NAME" in done.err
    assert done.out == ""
