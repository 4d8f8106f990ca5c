"""The SDK and the command line with TLS: files, names, tokens, and connections."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bus_client import BusClient, InvalidArgument, TlsFailed, credentials
from bus_client import sync as blocking
from tests.certificates import PairFiles, authority, pair
from tests.serving import ServerProcess
from tests.shell import Shell


@dataclass(frozen=True, slots=True)
class Encrypted:
    """A server with TLS, and what its clients need."""

    address: str
    ca_file: Path

    def client(self, **options: object) -> BusClient:
        """Returns a client that trusts the server, for an agent unless `options` name none."""
        given = {"ca_file": self.ca_file, "timeout": 10} | options
        return BusClient(str(given.pop("server", self.address)), **given)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory, chosen_store: None) -> Iterator[Encrypted]:
    """A server with TLS on loopback."""
    folder = tmp_path_factory.mktemp("encrypted")
    with ServerProcess(folder / "bus.db", *pair().save(folder).flags) as server:
        yield Encrypted(f"tls://{server.address}", authority().save(folder))


@pytest.fixture(scope="module")
def mutual(tmp_path_factory: pytest.TempPathFactory, chosen_store: None) -> Iterator[Encrypted]:
    """A server that requires client certificates."""
    folder = tmp_path_factory.mktemp("mutual")
    ca_file = authority().save(folder)
    flags = [*pair().save(folder).flags, "--tls-client-ca", str(ca_file)]
    with ServerProcess(folder / "bus.db", *flags) as server:
        yield Encrypted(f"tls://{server.address}", ca_file)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST"])
async def test_a_client_posts_and_follows_over_tls(
    encrypted: Encrypted, name: str, tmp_path: Path, host: str
) -> None:
    address = encrypted.address.replace("127.0.0.1", host)
    kept = tmp_path / "credentials.json"
    async with encrypted.client(server=address, agent=name, credentials=kept) as bus:
        assert bus.server == address
        thread = await bus.join(name)
        await thread.post("hello")
        results = [result async for result in thread.post_many(["a", "b"])]
        assert len(results) == 2
        async for message in thread.follow(include_own=True):
            assert message.content
            break


def test_the_client_without_asyncio_uses_tls_too(encrypted: Encrypted) -> None:
    with blocking.BusClient(encrypted.address, ca_file=encrypted.ca_file, timeout=10) as bus:
        assert bus.server_info().agent == "anonymous"


@pytest.mark.usefixtures("chosen_store")
async def test_localhost_is_verified_by_that_name(tmp_path: Path) -> None:
    files = authority().issue("localhost").save(tmp_path)
    ca_file = authority().save(tmp_path)
    with ServerProcess(tmp_path / "bus.db", *files.flags) as server:
        port = server.address.rpartition(":")[2]
        async with BusClient(f"tls://localhost:{port}", ca_file=ca_file, timeout=10):
            pass
        with pytest.raises(TlsFailed, match=r"is for localhost, not for 127\.0\.0\.1"):
            await BusClient(f"tls://127.0.0.1:{port}", ca_file=ca_file, timeout=10).connect()


async def test_the_environment_names_the_files(
    mutual: Encrypted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = authority().issue("client").save(tmp_path, "client")
    monkeypatch.setenv("THREADBUS_CA_FILE", str(mutual.ca_file))
    monkeypatch.setenv("THREADBUS_CLIENT_CERT", str(own.certificate))
    monkeypatch.setenv("THREADBUS_CLIENT_KEY", str(own.key))
    async with BusClient(mutual.address, timeout=10) as bus:
        assert bus.agent == "anonymous"


def client_files(folder: Path) -> PairFiles:
    return authority().issue("client").save(folder, "client")


async def test_a_client_certificate_lets_a_client_connect_and_the_token_says_who_it_is(
    mutual: Encrypted, name: str, tmp_path: Path
) -> None:
    own = client_files(tmp_path)
    async with mutual.client(
        agent=name,
        credentials=tmp_path / "credentials.json",
        client_cert=str(own.certificate),
        client_key=str(own.key),
    ) as bus:
        assert (await bus.server_info()).agent == name


def test_the_command_line_takes_the_files_as_options_and_from_the_environment(
    mutual: Encrypted, tmp_path: Path
) -> None:
    own, shell = client_files(tmp_path), Shell(mutual.address, tmp_path)
    given = ["--ca-file", str(mutual.ca_file), "--client-cert", str(own.certificate)]
    shell.ok("post", "t", "hello", "--as", "coder", *given, "--client-key", str(own.key))
    environment = {
        "THREADBUS_CA_FILE": str(mutual.ca_file),
        "THREADBUS_CLIENT_CERT": str(own.certificate),
        "THREADBUS_CLIENT_KEY": str(own.key),
    }
    read = shell.run("read", "t", "--json", env=environment)
    assert [message["content"] for message in read.json["messages"]] == ["hello"]
    checked = shell.run("doctor", "--json", env=environment)
    assert checked.json["healthy"], checked


async def test_tail_watches_over_tls(encrypted: Encrypted, name: str, tmp_path: Path) -> None:
    shell = Shell(encrypted.address, tmp_path)
    async with encrypted.client() as bus:
        await bus.create_thread(name)
        await bus.thread(name).post("hello")
        call = ["tail", name, "--from-start", "--json", "--ca-file", str(encrypted.ca_file)]
        with shell.start(*call) as process:
            assert process.stdout is not None
            line = await asyncio.to_thread(process.stdout.readline)
            assert json.loads(line)["content"] == "hello"


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"ca_file": "missing.pem"}, "ca_file"),
        ({"ca_file": "/"}, "ca_file"),
        ({"ca_file": "a\0b"}, "ca_file"),
        ({"ca_file": __file__}, "ca_file"),
        ({"ca_file": os.devnull}, "ca_file"),
        ({"client_cert": __file__, "client_key": __file__}, "client_key"),
        ({"client_cert": "missing.pem", "client_key": __file__}, "client_cert"),
    ],
)
async def test_a_file_that_cannot_be_used_is_an_invalid_argument(
    encrypted: Encrypted, options: dict[str, str], field: str
) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        await encrypted.client(**options).connect()
    assert [name for name, _ in refusal.value.field_violations] == [field]
    assert options[field] in str(refusal.value)


@pytest.mark.parametrize("given", ["client_cert", "client_key"])
def test_a_client_certificate_needs_its_key(given: str) -> None:
    with pytest.raises(InvalidArgument, match=f"must be given with {given}"):
        BusClient("bus.example", **{given: "file.pem"})  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match=f"{given}: must be a path"):
        BusClient("bus.example", **{given: 7})  # type: ignore[arg-type]


async def test_without_tls_the_files_are_not_read(server: ServerProcess) -> None:
    async with BusClient(server.address, ca_file="missing.pem", timeout=10) as bus:
        assert bus.agent == "anonymous"


def test_a_token_for_tls_is_never_that_of_the_address_without_it(tmp_path: Path) -> None:
    path = tmp_path / "credentials.json"
    for address in ("bus.example:1", "plaintext://bus.example:1", "tls://localhost:1"):
        credentials.keep_token(path, address, "a", address)
    assert credentials.kept_token(path, "bus.example:1", "a") == "bus.example:1"
    assert (
        credentials.kept_token(path, "plaintext://bus.example:1", "a")
        == "plaintext://bus.example:1"
    )
    assert credentials.kept_token(path, "localhost:1", "a") is None
    assert credentials.kept_token(path, "127.0.0.1:1", "a") is None
    assert credentials.kept_token(path, "tls://127.0.0.1:1", "a") == "tls://localhost:1"


@pytest.mark.usefixtures("chosen_store")
@pytest.mark.slow
async def test_an_open_follow_goes_on_with_a_restarted_server(tmp_path: Path, name: str) -> None:
    ca_file = authority().save(tmp_path)
    with ServerProcess(tmp_path / "bus.db", *pair().save(tmp_path).flags) as server:
        address = f"tls://{server.address}"
        async with BusClient(address, ca_file=ca_file, timeout=20) as bus:
            thread = await bus.join(name)
            follower = thread.follow(include_own=True)
            await thread.post("before")
            assert (await anext(follower)).content == "before"
            server.kill()
            server.start()
            await thread.post("after")
            assert (await anext(follower)).content == "after"
            await follower.aclose()
