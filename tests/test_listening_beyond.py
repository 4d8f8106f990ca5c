"""Listening beyond loopback: tokens are required unless turned off; and invalid addresses."""

import asyncio
from pathlib import Path

import pytest

from tests.callers import operator
from tests.conftest import StartServer
from tests.connections import connected
from tests.refusals import refused
from tests.refused_start import contents, refused_start
from threadbus.v1.bus_service_pb2 import GetServerInfoRequest, ListMessagesRequest
from threadbus.v1.thread_service_pb2 import ListThreadsRequest


@pytest.mark.slow
async def test_beyond_loopback_a_token_is_required(start_server: StartServer) -> None:
    server = start_server("--insecure", listen="0.0.0.0:0")
    assert server.announcement.endswith(" · auth required (insecure)")
    port = server.address.rpartition(":")[2]
    async with connected(f"127.0.0.1:{port}") as client:
        request = ListMessagesRequest(thread="t")
        assert (await refused(client.bus.ListMessages(request))).reason == "TOKEN_INVALID"
        info = await client.bus.GetServerInfo(GetServerInfoRequest())
        assert (info.auth, list(info.scopes)) == ("required", [])
        listed = ListThreadsRequest()
        await client.threads.ListThreads(listed, metadata=operator(server).metadata)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "listen", "told"),
    [
        (["--insecure", "--auth", "open"], "0.0.0.0:0", "auth open (insecure)"),
        (["--insecure"], "127.0.0.1:0", "auth open (loopback)"),
        (["--auth", "required"], "127.0.0.1:0", "auth required (loopback)"),
        ([], "unix:{}/bus.sock", "auth open (unix socket)"),
        (["--insecure"], "unix:{}/bus.sock", "auth open (unix socket)"),
    ],
)
def test_a_server_reports_where_it_listens_and_whether_tokens_are_required(
    start_server: StartServer, tmp_path: Path, flags: list[str], listen: str, told: str
) -> None:
    server = start_server(*flags, listen=listen.format(tmp_path))
    assert server.announcement.endswith(f" · {told}")


@pytest.mark.slow
@pytest.mark.parametrize("insecure", [[], ["--insecure"]], ids=["loopback", "insecure"])
@pytest.mark.parametrize(
    "listen", ["7421", "foo", ":0", "127.0.0.1", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:65536"]
)
def test_an_invalid_address_is_refused_with_an_example(
    tmp_path: Path, listen: str, insecure: list[str]
) -> None:
    line = refused_start(tmp_path / "bus.db", *insecure, listen=listen)
    assert listen in line
    assert "HOST:PORT" in line
    assert contents(tmp_path) == {}


@pytest.mark.slow
@pytest.mark.parametrize("host", ["localhost", "0.0.0.0"])  # noqa: S104 - must be refused
async def test_a_port_in_use_by_a_server_is_refused_under_every_name_of_the_host(
    start_server: StartServer, tmp_path: Path, host: str
) -> None:
    first = start_server()
    place = f"{host}:{first.address.rpartition(':')[2]}"
    folder = tmp_path / "second"
    folder.mkdir()
    line = await asyncio.to_thread(refused_start, folder / "bus.db", "--insecure", listen=place)
    assert place in line
    assert "taken" in line
    assert contents(folder) == {}
    async with connected(first.address) as client:
        await client.bus.GetServerInfo(GetServerInfoRequest(), timeout=10)
