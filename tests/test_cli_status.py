"""`threadbus status`: what it shows of a real server, and of one that is strange."""

import asyncio
from contextlib import aclosing
from pathlib import Path

import grpc
import pytest

from bus_client import BusClient, Presence
from tests.callers import operator_token_file
from tests.conftest import StartServer
from tests.polling import until_known
from tests.script import Failure, scripted
from tests.serving import ServerProcess
from tests.shell import Shell
from tests.test_cli_terminal import HOSTILE, UNSAFE, VISIBLE
from tests.wait_frames import seconds
from threadbus.v1.admin_service_pb2 import (
    GetStatusRequest,
    GetStatusResponse,
    Latency,
    PresenceCount,
    ThreadActivity,
)

pytestmark = pytest.mark.slow


@pytest.mark.own_server
async def test_a_status_tells_what_was_done(server: ServerProcess, tmp_path: Path) -> None:
    shell, own = Shell(server.address, tmp_path), tmp_path / "credentials.json"
    async with (
        BusClient(server.address, agent="coder", credentials=own) as coder,
        BusClient(server.address, agent="reviewer", credentials=own) as reviewer,
        BusClient(server.address) as anybody,
    ):
        thread = await coder.join("design")
        async with aclosing((await reviewer.join("design")).follow()) as messages:
            for _ in range(3):
                await thread.post("?", mentions=["reviewer"], ask=True)
                await anext(messages)  # the first may be history; the others are wake-ups
        waiting = asyncio.create_task(anext(thread.follow()))

        async def only_the_coder_waits() -> bool:
            found = await anybody.status(window=300)
            presences = [each.presence for each in found.agents if each.count]
            return found.open_waits == 1 and Presence.PRESENCE_WAITING in presences

        await until_known(only_the_coder_waits)
        status = await anybody.status(window=300)
        shown = (await asyncio.to_thread(shell.ok, "status", "--window", "5m")).out
        document = (await asyncio.to_thread(shell.ok, "status", "--window", "5m", "--json")).json
        waiting.cancel()
    assert status.posted_per_second > 0
    assert document["wake"]["count"] == status.wake.count > 0
    assert document["open_requests"] == 3
    (busy,) = document["busiest_threads"]
    assert (busy["thread"], busy["last_seq"], busy["open_waits"]) == ("design", 3, 1)
    first, _, *lines = shown.splitlines()
    assert first.startswith(f"{status.server} at {server.address} · ")
    assert f"threadbus {status.version} · up " in first
    rows = [line.split(maxsplit=1) for line in lines if line]
    assert dict(rows[:-2])["waits"] == "1 open"
    assert dict(rows[:-2])["agents"].startswith("1 waiting ")
    assert dict(rows[:-2])["requests"].split() == ["3", "open", "0", "overdue"]
    assert lines[-1].split()[1:] == ["1", "#3", "design"]


async def test_a_status_of_a_failing_store_is_exit_code_4_and_safe_to_show(tmp_path: Path) -> None:
    status = GetStatusResponse(
        server=HOSTILE,
        version=HOSTILE,
        store_kind=HOSTILE,
        store_failing=True,
        agents=[PresenceCount(presence=99, count=2)],  # type: ignore[arg-type]
        wake=Latency(count=2**63 - 1, p50=seconds(0.00041), p99=seconds(12), max=seconds(1e9)),
        busiest_threads=[ThreadActivity(thread=HOSTILE, posted_per_second=float("nan"))],
    )
    status.time.seconds = 2**62
    async with scripted() as script:
        shell = Shell(script.address, tmp_path)
        for arguments in (["status"], ["status", "--json"]):
            script.answer("GetStatus", status)
            done = await asyncio.to_thread(shell.run, *arguments)
            assert (done.code, done.err) == (4, "")
            assert not UNSAFE.search(done.out)
            if "--json" in arguments:
                assert done.json["store_failing"] is True
            else:
                assert "THE STORE FAILS" in done.out
                assert done.out.count(VISIBLE) == 4
                assert "p50 0.41 ms" in done.out
                assert "2 99" in done.out


@pytest.mark.parametrize(("verb", "default"), [("status", 60), ("top", 10)])
async def test_window_server_and_token_file_reach_the_server(
    tmp_path: Path, verb: str, default: int
) -> None:
    token = tmp_path / "token"
    token.write_text("of-an-operator")
    token.chmod(0o600)
    async with scripted() as script:
        nowhere = Shell("127.0.0.1:1", tmp_path)
        here = (verb, "--server", script.address)
        for flags in ((), ("--window", "5m", "--token-file", str(token))):
            script.answer("GetStatus", Failure(grpc.StatusCode.UNIMPLEMENTED))  # ends top, too
            done = await asyncio.to_thread(nowhere.run, *here, *flags)
            assert "is older than this program" in done.err
        asked = [request.window.seconds for request in script.asked(GetStatusRequest)]
        assert (asked, script.tokens(GetStatusRequest)[-1]) == ([default, 300], "of-an-operator")


async def test_a_server_that_does_not_tell_its_status_is_explained(
    start_server: StartServer, tmp_path: Path, name: str
) -> None:
    async with scripted() as script:
        shell = Shell(script.address, tmp_path)
        for arguments in ("status", "top"):
            script.answer("GetStatus", Failure(grpc.StatusCode.UNIMPLEMENTED))
            done = await asyncio.to_thread(shell.run, arguments, "--json")
            assert done.code == 1
            assert "is older than this program" in done.error["message"]
            assert "threadbus doctor" in done.error["hint"]
    server = start_server("--auth", "required")
    boss = str(operator_token_file(server.db))
    shell = Shell(server.address, tmp_path)
    assert (await asyncio.to_thread(shell.run, "status")).code == 6
    register = ["register", name, "--show-token", "--token-file", boss]
    token = (await asyncio.to_thread(shell.ok, *register)).out.split()[-1]
    done = await asyncio.to_thread(shell.run, "status", env={"THREADBUS_TOKEN": token})
    assert done.code == 6
    assert "--token-file" in done.err
    assert (await asyncio.to_thread(shell.run, "status", "--token-file", boss)).code == 0


async def test_the_window_of_a_status_is_sent() -> None:
    async with scripted() as script, BusClient(script.address) as bus:
        for _ in range(2):
            script.answer("GetStatus", GetStatusResponse())
        await bus.status()
        await bus.status(window=2.5)
        whole, part = script.asked(GetStatusRequest)
        assert not whole.HasField("window")
        assert part.window == seconds(2.5)
