"""Certificates that change while a server runs: it takes up what works, and keeps what it has."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest

from bus_server import tls
from tests.certificates import (
    LONG_AGO,
    YESTERDAY,
    PairFiles,
    authority,
    credentials,
    other_authority,
    pair,
    presents,
)
from tests.conftest import StartServer
from tests.connections import over_tls
from tests.polling import until, until_known
from tests.serving import ServerProcess
from tests.wait_frames import waiting
from threadbus.v1.bus_service_pb2 import GetServerInfoRequest, PostMessageRequest

pytestmark = pytest.mark.slow


@pytest.fixture
def files(tmp_path: Path) -> PairFiles:
    """The files of a certificate and its key."""
    return pair().save(tmp_path)


@pytest.fixture
def server(start_server: StartServer, files: PairFiles) -> ServerProcess:
    """A server with these files."""
    return start_server(*files.flags)


def warnings(server: ServerProcess) -> list[str]:
    return [line for line in server.log if " WARNING " in line]


async def test_new_connections_get_a_new_certificate_and_open_streams_go_on(
    server: ServerProcess, files: PairFiles
) -> None:
    renewed = authority().issue()
    async with (
        over_tls(server.address, credentials(), "t") as before,
        waiting(before.bus, "t") as frames,
    ):
        await frames.until("caught_up")
        files.replace(certificate=renewed.certificate, key=renewed.key)
        await until(presents(server.address, renewed))
        async with over_tls(server.address, credentials()) as after:
            await after.bus.PostMessage(PostMessageRequest(thread="t", content="hello"))
        (message,) = await frames.messages(1)
        assert message.content == "hello"
    assert warnings(server) == []
    assert "valid until" in server.log[-1]


async def test_a_certificate_of_another_ca_is_taken_up_too(
    server: ServerProcess, files: PairFiles
) -> None:
    renewed = other_authority().issue()
    files.replace(certificate=renewed.certificate, key=renewed.key)
    await until(presents(server.address, renewed))


async def test_a_key_without_its_certificate_is_not_taken_up(
    server: ServerProcess, files: PairFiles
) -> None:
    renewed = authority().issue()
    files.replace(key=renewed.key)
    await until(lambda: bool(warnings(server)))
    assert presents(server.address, pair())()
    files.replace(certificate=renewed.certificate)
    await until(presents(server.address, renewed))
    (line,) = warnings(server)
    assert f"the key in {files.key} does not belong to the certificate" in line
    assert "goes on with" in line


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (b"garbage", "is not a certificate in PEM format"),
        (b"\xff\xfe\xff", "is not a certificate in PEM format"),
        (b"", "is empty"),
        (pair().certificate[:200], "cut off"),
        (None, "No such file"),
    ],
    ids=["garbage", "not ASCII", "empty", "cut off", "removed"],
)
async def test_a_certificate_that_cannot_be_used_is_not_taken_up_and_logged_once(
    server: ServerProcess, files: PairFiles, harm: bytes | None, told: str
) -> None:
    if harm is None:
        files.certificate.unlink()
    else:
        files.certificate.write_bytes(harm)
    await until(lambda: bool(warnings(server)))
    assert presents(server.address, pair())()
    renewed = authority().issue()
    files.replace(certificate=renewed.certificate, key=renewed.key)
    await until(presents(server.address, renewed))
    (line,) = warnings(server)
    assert str(files.certificate) in line
    assert told in line


async def test_a_certificate_that_has_expired_is_not_taken_up(
    server: ServerProcess, files: PairFiles
) -> None:
    expired = authority().issue(not_before=LONG_AGO, not_after=YESTERDAY)
    files.replace(certificate=expired.certificate, key=expired.key)
    await until(lambda: bool(warnings(server)))
    assert presents(server.address, pair())()
    assert "expired on" in warnings(server)[0]


async def test_a_file_that_can_be_read_again_is_taken_up(
    server: ServerProcess, files: PairFiles
) -> None:
    away = files.key.with_suffix(".away")
    files.key.rename(away)
    await until(lambda: bool(warnings(server)))
    away.rename(files.key)
    await until(lambda: "new connections use" in server.log[-1])
    assert presents(server.address, pair())()


async def test_a_new_client_ca_is_taken_up(
    start_server: StartServer, files: PairFiles, tmp_path: Path
) -> None:
    client_ca = authority().save(tmp_path)
    server = start_server(*files.flags, "--tls-client-ca", str(client_ca))
    client = other_authority().issue("client")

    async def accepted() -> bool:
        async with over_tls(server.address, credentials(client)) as stub:
            try:
                await stub.bus.GetServerInfo(GetServerInfoRequest(), timeout=10)
            except grpc.aio.AioRpcError:
                return False
            return True

    assert not await accepted()
    client_ca.write_bytes(authority().pem + other_authority().pem)
    await until_known(accepted)


async def test_a_certificate_that_expires_while_in_use_is_logged(
    start_server: StartServer, tmp_path: Path
) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=4)
    files = authority().issue(not_after=soon).save(tmp_path)
    server = start_server(*files.flags)
    await until(lambda: bool(warnings(server)))
    assert f"the certificate in {files.certificate} has expired" in warnings(server)[0]
    renewed = authority().issue()
    files.replace(certificate=renewed.certificate, key=renewed.key)
    await until(presents(server.address, renewed))
    assert len(warnings(server)) == 1


async def test_what_is_wrong_is_logged_once_however_often_it_is_seen(
    files: PairFiles, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    looks = 0

    async def counted(function: Callable[[], object]) -> object:
        nonlocal looks
        looks += 1
        return function()

    monkeypatch.setattr(tls, "CHECK_INTERVAL", 0.001)
    monkeypatch.setattr(asyncio, "to_thread", counted)
    loaded = tls.Certificates(files.certificate, files.key, None)
    watching = asyncio.create_task(loaded.watch_forever())
    try:
        for told in ("is empty", "No such file"):
            if told == "is empty":
                files.certificate.write_bytes(b"")
            else:
                files.certificate.unlink()
            before = looks
            await until(lambda before=before: looks >= before + 10)  # type: ignore[misc]
            assert [told in line for line in caplog.messages].count(True) == 1
    finally:
        watching.cancel()
    assert len(caplog.messages) == 2
