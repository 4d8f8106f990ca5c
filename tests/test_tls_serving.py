"""A server with TLS: what it announces, whom it lets connect, and what it needs beyond loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.callers import operator, register
from tests.certificates import (
    PairFiles,
    authority,
    credentials,
    other_authority,
    pair,
)
from tests.conftest import StartServer
from tests.connections import connected, over_tls
from tests.refusals import refused
from tests.refused_start import contents, refused_start
from tests.serving import ServerProcess
from threadbus.v1.bus_service_pb2 import GetServerInfoRequest, ListMessagesRequest


@pytest.fixture
def files(tmp_path: Path) -> PairFiles:
    """The files of a certificate and its key."""
    folder = tmp_path / "tls"
    folder.mkdir()
    return pair().save(folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "listen", "told"),
    [
        ([], "127.0.0.1:0", "auth open (loopback, tls)"),
        (["--auth", "required"], "127.0.0.1:0", "auth required (loopback, tls)"),
        ([], "0.0.0.0:0", "auth required (tls)"),
        (["--insecure"], "0.0.0.0:0", "auth required (tls)"),
        (["--insecure", "--auth", "open"], "0.0.0.0:0", "auth open (insecure, tls)"),
    ],
)
def test_a_server_reports_that_it_has_tls(
    start_server: StartServer, files: PairFiles, flags: list[str], listen: str, told: str
) -> None:
    server = start_server(*flags, *files.flags, listen=listen)
    assert server.announcement.endswith(f" · {told}")


@pytest.mark.usefixtures("chosen_store")
@pytest.mark.slow
async def test_a_server_reports_in_json_that_it_has_tls(tmp_path: Path, files: PairFiles) -> None:
    server = ServerProcess(tmp_path / "bus.db", "--json", *files.flags)
    server.process = server.spawn()
    try:
        assert server.process.stdout is not None
        assert json.loads(server.process.stdout.readline())["tls"] is True
    finally:
        server.kill()


async def test_clients_that_trust_the_ca_can_call(
    start_server: StartServer, files: PairFiles
) -> None:
    server = start_server(*files.flags)
    async with over_tls(server.address, credentials()) as client:
        info = await client.bus.GetServerInfo(GetServerInfoRequest(), timeout=10)
        assert info.auth == "open"


async def test_clients_without_tls_cannot_call(start_server: StartServer, files: PairFiles) -> None:
    server = start_server(*files.flags)
    async with connected(server.address) as client:
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await client.bus.GetServerInfo(GetServerInfoRequest(), timeout=10)
    assert failure.value.code() == grpc.StatusCode.UNAVAILABLE


@pytest.fixture(scope="module")
def mutual(tmp_path_factory: pytest.TempPathFactory, chosen_store: None) -> Iterator[ServerProcess]:
    """A server that requires client certificates and tokens."""
    folder = tmp_path_factory.mktemp("mutual")
    flags = [*pair().save(folder).flags, "--tls-client-ca", str(authority().save(folder))]
    with ServerProcess(folder / "bus.db", "--auth", "required", *flags) as server:
        yield server


@pytest.mark.parametrize("client", [None, other_authority], ids=["none", "of another CA"])
async def test_with_a_client_ca_clients_need_a_certificate_from_it(
    mutual: ServerProcess, client: object
) -> None:
    own = other_authority().issue("client") if client else None
    async with over_tls(mutual.address, credentials(own)) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await stub.bus.GetServerInfo(GetServerInfoRequest(), timeout=10)
    assert failure.value.code() == grpc.StatusCode.UNAVAILABLE


async def test_beside_client_certificates_tokens_say_who_calls(
    mutual: ServerProcess, name: str
) -> None:
    client = authority().issue("somebody-else")
    async with over_tls(mutual.address, credentials(client)) as stub:
        refusal = await refused(stub.bus.ListMessages(ListMessagesRequest(thread="t")))
        assert refusal.reason == "TOKEN_INVALID"
        agent = await register(stub.agents, name, by=operator(mutual))
        info = await stub.bus.GetServerInfo(
            GetServerInfoRequest(), metadata=agent.metadata, timeout=10
        )
        assert info.agent == name


@pytest.mark.slow
def test_beyond_loopback_tls_without_tokens_is_refused(tmp_path: Path, files: PairFiles) -> None:
    before = contents(tmp_path)
    line = refused_start(tmp_path / "bus.db", *files.flags, "--auth", "open", listen="0.0.0.0:0")
    assert "--auth open" in line
    assert "--insecure" in line
    assert contents(tmp_path) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "missing"),
    [
        (["--tls-cert"], "--tls-key"),
        (["--tls-key"], "--tls-cert"),
        (["--tls-client-ca"], "--tls-cert and --tls-key"),
        (["--tls-cert", "--tls-client-ca"], "--tls-key"),
    ],
)
def test_a_part_of_the_flags_is_refused_with_what_is_missing(
    tmp_path: Path, files: PairFiles, given: list[str], missing: str
) -> None:
    flags = [part for flag in given for part in (flag, str(files.certificate))]
    line = refused_start(tmp_path / "bus.db", *flags)
    assert line.startswith(f"threadbus: {given[0]} is given without {missing}: ")


@pytest.mark.slow
def test_a_unix_socket_has_no_tls(tmp_path: Path, files: PairFiles) -> None:
    line = refused_start(tmp_path / "bus.db", *files.flags, listen=f"unix:{tmp_path}/bus.sock")
    assert "leave out --tls-cert and --tls-key" in line


@pytest.mark.slow
def test_a_key_that_everyone_can_read_is_logged(
    start_server: StartServer, files: PairFiles
) -> None:
    files.key.chmod(0o644)
    server = start_server(*files.flags)
    assert server.stop() == 0
    (line,) = server.problems
    assert f"chmod o= {files.key}" in line
