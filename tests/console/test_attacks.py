"""Strangers: what is sent to a console without a login, and what that leaves behind."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from tests.console.consoles import ConsoleProcess, browser, console_of
from tests.serving import ServerProcess

pytestmark = pytest.mark.slow

POST = b"POST /login HTTP/1.1\r\nHost: HOST\r\nContent-Type: application/json\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
BODY = b"\r\n2\r\n{}\r\n0\r\n\r\n"
SECOND = b"GET /app.js HTTP/1.1\r\nHost: HOST\r\n\r\n"
REFUSED = {
    "two hosts": b"GET / HTTP/1.1\r\nHost: HOST\r\nHost: evil\r\n\r\n",
    "two origins": b"GET /api/me HTTP/1.1\r\nHost: HOST\r\nOrigin: http://HOST\r\n"
    b"Origin: http://evil\r\n\r\n" + SECOND,
    "two types": POST + b"Content-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}",
    "two lengths": POST + b"Content-Length: 2\r\nContent-Length: 60\r\n\r\n{}" + SECOND,
    "length and chunks": POST + b"Content-Length: 2\r\n" + CHUNKED + BODY + SECOND,
    "chunks in chunks": POST + CHUNKED + CHUNKED + BODY + SECOND,
    "unknown coding": POST + b"Transfer-Encoding: xchunked\r\n" + BODY + SECOND,
    "a length with a sign": POST + b"Content-Length: +2\r\n\r\n{}" + SECOND,
    "a space in a name": POST + b"Content-Length : 2\r\n\r\n{}" + SECOND,
    "no chunk": POST + CHUNKED + b"\r\nzz\r\n" + SECOND,
    "NUL": b"GET / HTTP/1.1\r\nHost: HOST\r\nX: \x00\r\n\r\n" + SECOND,
}


@pytest.fixture(scope="module")
def console(
    shared_server: ServerProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ConsoleProcess]:
    """A console of its own, which must have logged nothing at its end."""
    home = tmp_path_factory.mktemp("attacked")
    with console_of(shared_server, home, home.name) as running:  # it may start several times
        yield running
        assert running.stop()[1] == ""


def connect(console: ConsoleProcess, *sent: bytes) -> socket.socket:
    host, _, port = console.listening.rpartition(":")
    opened = socket.create_connection((host, int(port)), 30)
    for part in sent:
        opened.sendall(part.replace(b"HOST", console.listening.encode()))
    return opened


def received(opened: socket.socket) -> bytes:
    """Returns what comes until the other side closes the connection."""
    found = b""
    try:
        while part := opened.recv(65_536):
            found += part
    except ConnectionError:
        pass
    return found


@pytest.mark.parametrize("name", REFUSED)
def test_what_proxies_could_read_in_another_way_is_refused(
    console: ConsoleProcess, name: str
) -> None:
    with connect(console, REFUSED[name]) as opened:
        found = received(opened)
    assert found.startswith(b"HTTP/1.1 400 ")
    assert found.count(b"HTTP/1.1 ") == 1  # nothing of it was taken for another request


def test_what_breaks_off_or_goes_on_after_the_response_leaves_nothing(
    console: ConsoleProcess,
) -> None:
    with connect(console, POST, b"Content-Length: 9\r\n\r\n{"):
        pass
    with connect(console, POST.replace(b"/login", b"/api/post"), CHUNKED, b"\r\n") as opened:
        assert opened.recv(12) == b"HTTP/1.1 401"
        opened.sendall(b"zz\r\n")
        received(opened)
    upgrade = b"Connection: upgrade\r\nUpgrade: websocket\r\nConnection: close\r\n\r\n"
    with connect(console, SECOND[:-2].replace(b"app.js", b"api/events") + upgrade) as opened:
        assert received(opened).startswith(b"HTTP/1.1 401")


@pytest.mark.timeout(90)
async def test_those_that_ask_for_nothing_are_cut_off(console: ConsoleProcess) -> None:
    body = POST.replace(b"/login", b"/api/post") + b"Content-Length: 1000000\r\n\r\n"
    slow = [connect(console), connect(console, SECOND[:-2]), connect(console, body)]

    async def feed(opened: socket.socket) -> None:
        opened.setblocking(False)
        loop = asyncio.get_running_loop()
        with pytest.raises(ConnectionError):
            while True:
                await loop.sock_sendall(opened, b"x")
                await asyncio.sleep(0.2)

    with ExitStack() as opened:
        for each in slow:
            opened.enter_context(each)
        async with asyncio.timeout(60):
            silent = asyncio.to_thread(received, slow[0])
            assert (await asyncio.gather(silent, *map(feed, slow[1:])))[0] == b""


async def test_any_number_of_idle_connections_holds_up_nobody(console: ConsoleProcess) -> None:
    with ExitStack() as opened:
        idle = [opened.enter_context(connect(console, b"G")) for _ in range(1_100)]
        async with browser(console) as client:
            assert (await client.get("api/me")).status_code == 200
        assert received(idle[0]) == b""


async def test_the_secret_cannot_be_guessed_by_trying(console: ConsoleProcess) -> None:
    assert len(console.token) == 32
    async with httpx.AsyncClient(base_url=console.url, timeout=30) as client:
        for guess in (console.token[:-1], console.token + "x", console.token.swapcase(), "*"):
            response = await client.post("login", json={"token": guess})
            assert response.status_code == 401
