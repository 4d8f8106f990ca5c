"""TLS that fails: each reason has its own sentence, and no client retries in vain."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from bus_client import BusClient, TlsFailed, Unreachable
from tests.certificates import (
    LONG_AGO,
    YESTERDAY,
    PairFiles,
    authority,
    other_authority,
    pair,
)
from tests.conftest import StartServer
from tests.polling import until
from tests.serving import ServerProcess
from tests.shell import Shell

#: Seconds; without the reason, a client would try to connect for this long.
PATIENCE = 30.0
#: Seconds in which a client knows the reason.
SOON = 5.0


async def failure(address: str, ca_file: Path | None, client: PairFiles | None = None) -> TlsFailed:
    """Returns the error of a client that connects, which does not take long."""
    bus = BusClient(
        address,
        ca_file=ca_file,
        client_cert=client.certificate if client else None,
        client_key=client.key if client else None,
        timeout=PATIENCE,
    )
    async with asyncio.timeout(SOON):
        with pytest.raises(TlsFailed) as caught:
            await bus.connect()
    assert not caught.value.retryable
    assert caught.value.code == "UNAVAILABLE"
    assert caught.value.hint
    return caught.value


@pytest.fixture
def ca_file(tmp_path: Path) -> Path:
    return authority().save(tmp_path)


@pytest.fixture
def expired(tmp_path: Path) -> Iterator[str]:
    """The address of a server whose certificate has expired."""
    files = authority().issue(not_before=LONG_AGO, not_after=YESTERDAY).save(tmp_path)
    with raw_server(files) as address:
        yield address


@contextmanager
def raw_server(files: PairFiles) -> Iterator[str]:
    """A gRPC server that takes any certificate, unlike ours. Yields its address."""
    server = grpc.server(ThreadPoolExecutor(1))
    pairs = [(files.key.read_bytes(), files.certificate.read_bytes())]
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials(pairs))
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


async def test_an_expired_certificate_is_told(expired: str, ca_file: Path) -> None:
    error = await failure(f"tls://{expired}", ca_file)
    assert error.message == f"The certificate of {expired} has expired."
    assert "renew" in error.hint


async def test_a_certificate_for_another_name_is_told_with_both_names(
    tmp_path: Path, ca_file: Path
) -> None:
    files = authority().issue("bus.example", "192.0.2.7").save(tmp_path)
    with raw_server(files) as address:
        error = await failure(f"tls://{address}", ca_file)
        assert error.message == (
            f"The certificate of {address} is for bus.example, 192.0.2.7, not for 127.0.0.1."
        )
        localhost = address.replace("127.0.0.1", "localhost")
        error = await failure(f"tls://{localhost}", ca_file)
        assert error.message.endswith("not for localhost.")


@pytest.mark.parametrize("given", [None, other_authority], ids=["none", "another"])
async def test_a_certificate_of_a_ca_that_is_not_trusted_is_told(
    tmp_path: Path, given: Callable[[], object] | None
) -> None:
    ca_file = other_authority().save(tmp_path, "other.pem") if given else None
    with raw_server(pair().save(tmp_path)) as address:
        error = await failure(f"tls://{address}", ca_file)
    trusted = f"a CA in {ca_file}" if ca_file else "a public CA"
    assert error.message.startswith(f"The certificate of {address} is not from {trusted} (")
    assert "--ca-file" in error.hint


async def test_a_server_without_tls_is_told(server: ServerProcess, ca_file: Path) -> None:
    error = await failure(f"tls://{server.address}", ca_file)
    assert error.message == f"{server.address} does not use TLS, and this client requires it."
    assert f"Use the address {server.address};" in error.hint


async def test_a_server_with_tls_is_told(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(*pair().save(tmp_path).flags)
    error = await failure(server.address, None)
    assert error.message == f"{server.address} uses TLS, and this client connects without it."
    assert error.hint == f"Use the address tls://{server.address}."


@pytest.mark.parametrize("given", [None, other_authority], ids=["none", "of another CA"])
async def test_a_client_certificate_that_is_missing_or_refused_is_told(
    start_server: StartServer, tmp_path: Path, ca_file: Path, given: Callable[[], object] | None
) -> None:
    server = start_server(*pair().save(tmp_path).flags, "--tls-client-ca", str(ca_file))
    client = other_authority().issue("client").save(tmp_path, "client") if given else None
    error = await failure(f"tls://{server.address}", ca_file, client)
    if client:
        assert str(client.certificate) in error.message
        assert "does not accept the client certificate" in error.message
    else:
        assert "requires a client certificate" in error.message
        assert "--client-cert" in error.hint


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["", "tls://"])
async def test_a_server_that_is_away_is_unreachable_and_retried(ca_file: Path, scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"{scheme}127.0.0.1:{taken.getsockname()[1]}"
    with pytest.raises(Unreachable) as caught:
        await BusClient(address, ca_file=ca_file, timeout=0.5).connect()
    assert type(caught.value) is Unreachable


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["", "tls://"])
async def test_a_program_that_closes_connections_is_unreachable_and_retried(
    ca_file: Path, scheme: str
) -> None:
    listener = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with listener:
        address = f"{scheme}127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        with pytest.raises(Unreachable) as caught:
            await BusClient(address, ca_file=ca_file, timeout=1).connect()
    assert type(caught.value) is Unreachable


@pytest.mark.slow
async def test_a_proxy_whose_server_is_away_is_unreachable_and_retried(
    tmp_path: Path, ca_file: Path
) -> None:
    """It ends TLS, and closes the connection, as a server without a client's certificate does."""
    files = pair().save(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    context.set_alpn_protocols(["h2"])
    proxy = await asyncio.start_server(
        lambda _, writer: writer.transport.abort(), "127.0.0.1", 0, ssl=context
    )
    async with proxy:
        address = f"tls://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
        with pytest.raises(Unreachable) as caught:
            await BusClient(address, ca_file=ca_file, timeout=1).connect()
    assert type(caught.value) is Unreachable


@pytest.mark.usefixtures("chosen_store")
@pytest.mark.slow
async def test_a_client_connects_once_a_server_is_there(
    tmp_path: Path, ca_file: Path, name: str
) -> None:
    server = ServerProcess(tmp_path / "bus.db", *pair().save(tmp_path).flags)
    async with asyncio.timeout(20):
        bus = BusClient(f"tls://{server.address}", ca_file=ca_file, timeout=20)
        connecting = asyncio.create_task(bus.connect())
        await asyncio.sleep(0)
        with server:
            await connecting
            await bus.close()


@pytest.mark.slow
async def test_waits_and_posts_end_when_the_servers_certificate_is_no_longer_trusted(
    start_server: StartServer, tmp_path: Path, ca_file: Path, name: str
) -> None:
    files = pair().save(tmp_path)
    server = start_server(*files.flags)
    async with BusClient(f"tls://{server.address}", ca_file=ca_file, timeout=PATIENCE) as bus:
        thread = await bus.join(name)
        await thread.post("hello")
        follower = thread.follow(include_own=True)
        assert (await anext(follower)).content == "hello"
        waiting = asyncio.create_task(anext(follower, None))
        await until(lambda: not waiting.done())
        other = other_authority().issue()
        files.replace(certificate=other.certificate, key=other.key)
        server.kill()
        server.start()
        with pytest.raises(TlsFailed, match="is not from a CA in"):
            await thread.post("again")
        with pytest.raises(TlsFailed, match="is not from a CA in"):
            async with asyncio.timeout(40):
                await waiting


def test_the_command_line_tells_what_to_do(
    server: ServerProcess, tmp_path: Path, ca_file: Path
) -> None:
    shell = Shell(f"tls://{server.address}", tmp_path)
    done = shell.run("wait", "t", "--as", "a", "--ca-file", str(ca_file))
    assert done.code == 4
    told, hint = done.err.splitlines()
    assert told == (f"threadbus: {server.address} does not use TLS, and this client requires it.")
    assert hint.startswith(f"  Use the address {server.address};")


@pytest.mark.slow
def test_grpc_prints_nothing_of_its_own(
    server: ServerProcess, tmp_path: Path, ca_file: Path
) -> None:
    shell = Shell(f"tls://{server.address}", tmp_path)
    done = shell.run_process("whoami", "--ca-file", str(ca_file), "--json")
    assert (done.code, done.error["retryable"]) == (4, False)


def test_a_file_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    done = Shell("tls://localhost:1", tmp_path).run("whoami", "--ca-file", "missing.pem")
    assert done.code == 2
    assert "--ca-file" in done.err
