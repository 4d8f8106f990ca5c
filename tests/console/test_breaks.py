"""What pages show when the bus, the console, a token or the store goes away."""

import asyncio
import shutil
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from bus_client import BusClient
from bus_client.cli.console.connection import Connection
from bus_client.cli.console.feed import ThreadFeed
from tests.callers import operator_token_file
from tests.console.consoles import PERSON, ConsoleProcess, browser, console_of, events
from tests.polling import until
from tests.ports import free_port
from tests.serving import ServerProcess
from tests.shell import Shell

pytestmark = [pytest.mark.slow, pytest.mark.own_server]


@pytest.fixture
def console(server: ServerProcess, tmp_path: Path) -> Iterator[ConsoleProcess]:
    with console_of(server, tmp_path, PERSON, "--timeout", "3") as running:
        yield running


async def test_a_bus_that_dies_is_said_and_nothing_is_missed(
    console: ConsoleProcess, server: ServerProcess, bus: BusClient, name: str
) -> None:
    thread = await bus.join(name)
    async with browser(console) as client, events(client, name) as stream:
        await stream.next("overview", lambda data: data["live"])
        await stream.next("thread")
        await thread.post("before")
        await stream.messages(1)
        server.kill()
        await stream.next("overview", lambda data: not data["live"])
        given = {"thread": name, "text": "meanwhile", "request_id": "page-1"}
        response = await client.post("api/post", json=given)
        assert response.status_code in (503, 504), response.text
        server.start()
        await stream.next("overview", lambda data: data["live"])
        assert (await client.post("api/post", json=given)).json()["seq"] == 2
        await thread.post("after")
        texts = [message["content"] for message in await stream.messages(3)]
        assert texts == ["meanwhile", "after"]


async def test_a_console_that_dies_is_resumed_with_the_same_cookie(
    console: ConsoleProcess, bus: BusClient, name: str
) -> None:
    thread = await bus.join(name)
    async with browser(console) as client:
        async with events(client, name) as stream:
            await stream.next("thread")
            await thread.post("one")
            last = (await stream.next("messages")).id
            console.stop(signal.SIGKILL)
            with pytest.raises(httpx.TransportError):
                await stream.rest()
        for seq in range(2, 5):
            await thread.post(str(seq))
        first = console.token
        console.start()
        assert console.token != first
        async with events(client, name, last=last) as stream:
            assert [each["seq"] for each in await stream.messages(4)] == [2, 3, 4]


async def test_at_sigterm_streams_end_and_the_person_says_goodbye(
    console: ConsoleProcess, bus: BusClient, name: str
) -> None:
    await bus.join(name)
    async with AsyncExitStack() as pages:
        streams = []
        for _ in range(10):
            client = await pages.enter_async_context(browser(console))
            streams.append(await pages.enter_async_context(events(client, name)))
            await streams[-1].next("thread")
        assert await asyncio.to_thread(console.stop) == (128 + signal.SIGTERM, "")
        for stream in streams:
            await stream.rest()
    person = await bus.get_agent(PERSON)
    assert person.presence == 6  # PRESENCE_OFFLINE


async def test_an_export_that_breaks_midway_does_not_look_whole(
    console: ConsoleProcess, bus: BusClient, name: str
) -> None:
    thread = await bus.join(name)
    async for _ in thread.post_many("x" * 100_000 for _ in range(300)):
        pass
    with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
        async with (
            browser(console) as client,
            client.stream("GET", f"api/threads/{name}/export") as response,
        ):
            parts = response.aiter_raw()
            await anext(parts)
            await thread.delete()
            async for _ in parts:
                pass
    _, errors = await asyncio.to_thread(console.stop)
    (line,) = errors.splitlines()
    assert line.startswith(f"the export of {name} broke off: ")


async def test_a_token_that_ends_signs_the_pages_out(
    console: ConsoleProcess, server: ServerProcess, bus: BusClient, name: str
) -> None:
    await bus.join(name)
    boss_token = operator_token_file(server.db).read_text("ascii").strip()
    async with (
        BusClient(server.address, token=boss_token) as boss,
        browser(console) as client,
        events(client, name) as stream,
    ):
        await stream.next("overview", lambda data: not data["signed_out"])
        await stream.next("thread")
        await boss.reset_token(PERSON)
        told = await stream.next("overview", lambda data: data["signed_out"])
        assert told.data["live"]
        assert (await stream.next("refused")).data["message"]
        response = await client.get(f"api/threads/{name}")
        assert response.status_code == 502
        assert response.json()["reason"] == "TOKEN_EXPIRED"


async def test_another_store_signs_the_pages_out(
    console: ConsoleProcess, server: ServerProcess, bus: BusClient, tmp_path: Path, name: str
) -> None:
    thread = await bus.join(name)
    await thread.post("old")
    async with browser(console) as client, events(client, name) as stream:
        await stream.next("thread")
        server.kill()
        server.db = tmp_path / "new" / "bus.db"
        server.db.parent.mkdir()
        server.start()
        await stream.next("overview", lambda data: data["signed_out"])
        assert (await stream.next("refused")).data["message"]
    with console_of(server, tmp_path) as again:  # an operator registers the person again
        async with browser(again) as client:
            assert (await client.get("api/me")).json()["agent"] == PERSON


@pytest.mark.sqlite
async def test_a_store_that_goes_back_in_its_history_is_loaded_again(
    console: ConsoleProcess, server: ServerProcess, bus: BusClient, tmp_path: Path, name: str
) -> None:
    thread = await bus.join(name)
    epoch = (await thread.post("kept")).epoch
    server.stop()
    copy = shutil.copy(server.db, tmp_path / "copy.db")
    server.start()
    async with browser(console) as client:
        async with events(client, name, after=f"{epoch}:1") as stream:
            await thread.post("lost one")
            await thread.post("lost two")
            last = f"{epoch}:{(await stream.messages(3))[-1]['seq']}"
            server.stop()
            shutil.copy(copy, server.db)
            server.start()
            # Not the messages that get the seqs of those that are lost.
            (end,) = [event for event in await stream.rest() if event.kind == "resync"]
            assert end.data == {"epoch": epoch, "head": 1}
        async with events(client, name, last=last) as stream:
            assert (await stream.next("resync")).data == end.data
        async with events(client, name, after=f"{epoch}:1") as stream:
            await bus.thread(name).post("after")
            assert [each["content"] for each in await stream.messages(2)] == ["after"]


@pytest.mark.sqlite
async def test_a_restored_store_that_has_all_is_followed_in_its_new_epoch(
    console: ConsoleProcess, server: ServerProcess, bus: BusClient, tmp_path: Path, name: str
) -> None:
    thread = await bus.join(name)
    old = (await thread.post("kept")).epoch
    backup = str(tmp_path / "backup")
    async with browser(console) as client, events(client, name) as stream:
        await stream.next("thread", lambda data: data["participants"])
        server.stop()
        shell = Shell(server.address, tmp_path)
        shell.ok("backup", backup, "--db", str(server.db))
        shell.ok("restore", backup, "--db", str(server.db), "--force")
        server.start()
        await stream.next("resync", lambda data: data["epoch"] != old)
        page = (await client.get(f"api/threads/{name}")).json()
        epoch = page["thread"]["epoch"]
        async with events(client, name, after=f"{epoch}:1") as again:
            await again.next("thread", lambda data: data["thread"]["epoch"] == epoch)
            await bus.thread(name).post("after")
            assert (await again.next("messages")).id == f"{epoch}:2"
            assert "resync" not in [event.kind for event in again.raw]


@pytest.mark.usefixtures("chosen_store")
async def test_the_console_starts_without_a_bus_and_goes_on_when_it_comes(
    tmp_path: Path, name: str
) -> None:
    address = f"127.0.0.1:{free_port()}"
    with ServerProcess(tmp_path / "bus.db", listen=address) as server:
        with console_of(server, tmp_path):  # registers the person
            pass
        server.stop()
        with ConsoleProcess(address, tmp_path, "--as", PERSON) as console:
            assert console.who == f"{PERSON} at {address}"
            async with browser(console) as client, events(client, name) as stream:
                await stream.next("overview", lambda data: not data["live"])
                for path in ("agents", f"threads/{name}"):
                    assert (await client.get(f"api/{path}")).status_code == 503
                assert (await client.get("api/me")).json()["kind"] == ""
                server.start()
                await stream.next("overview", lambda data: data["live"])
                assert (await client.get("api/me")).json()["kind"] == "human"
                await client.post("api/threads", json={"thread": name})
                await stream.next("thread")
            _, errors = console.stop()
            assert errors == f"{address} does not answer yet; the page says when it does.\n"


async def test_a_failure_to_read_a_thread_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Connection):
        def __init__(self) -> None:
            self.ready = asyncio.Event()
            self.ready.set()
            self.attempts = 0

        @property
        def bus(self) -> BusClient:
            self.attempts += 1
            raise ZeroDivisionError

    connection = Broken()
    feed = ThreadFeed(connection, "design")
    woken = asyncio.Event()
    with feed.change.watched(woken):
        async with asyncio.timeout(20):
            await woken.wait()
    assert feed.refused is not None
    assert feed.refused["message"] == "The console failed: see its log."
    await until(lambda: connection.attempts == 3)
    assert caplog.text.count("cannot read thread design") == 1
    await asyncio.wait([feed.stop()])
