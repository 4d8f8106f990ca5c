"""HTTPS of a console, and the console of a server that speaks TLS."""

import asyncio
import contextlib
import signal
import socket
import ssl
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.certificates import authority, presents
from tests.console.consoles import PERSON, browser, console_of, events, serving
from tests.polling import until
from tests.ports import free_port
from tests.serving import ServerProcess

pytestmark = pytest.mark.slow


async def test_the_console_speaks_https_and_takes_up_a_new_certificate(
    server: ServerProcess, tmp_path: Path, name: str
) -> None:
    first, second = authority().issue(), authority().issue()
    files = first.save(tmp_path)
    verified = ssl.create_default_context(cadata=authority().pem.decode())
    with console_of(server, tmp_path, name, *files.flags) as console:
        assert console.url.startswith("https://127.0.0.1:")
        async with browser(console, verify=verified) as client, events(client) as stream:
            assert [cookie.secure for cookie in client.cookies.jar] == [True]
            await stream.next("overview")
            files.replace(certificate=second.certificate)  # not yet its key
            assert console.process is not None
            assert console.process.stderr is not None
            line = await asyncio.to_thread(console.process.stderr.readline)
            assert line.startswith(f"{files.certificate} and {files.key} cannot be used: ")
            assert await asyncio.to_thread(presents(console.listening, first))
            files.replace(key=second.key)
            await until(presents(console.listening, second))
            async with browser(console, verify=verified) as other:
                await other.post("api/threads", json={"thread": name})
            await stream.next(  # on the connection from before
                "overview", lambda data: name in [each["name"] for each in data["threads"]]
            )


async def test_any_number_of_idle_connections_holds_up_nobody(
    server: ServerProcess, tmp_path: Path, name: str
) -> None:
    files = authority().issue().save(tmp_path)
    verified = ssl.create_default_context(cadata=authority().pem.decode())
    with (
        console_of(server, tmp_path, name, *files.flags) as console,
        ExitStack() as opened,
    ):
        host, _, port = console.listening.rpartition(":")
        idle = []
        for _ in range(1_300):
            idle.append(socket.create_connection((host, int(port)), 30))
            opened.enter_context(idle[-1])
        async with browser(console, verify=verified) as client, events(client) as stream:
            await stream.next("overview")
        assert idle[0].recv(1) == b""
        with contextlib.suppress(ConnectionError):
            idle[-1].sendall(b"GET / HTTP/1.1\r\n\r\n")  # without TLS
            while part := idle[-1].recv(100):
                assert b"HTTP" not in part
        assert await asyncio.to_thread(console.stop) == (128 + signal.SIGTERM, "")


@pytest.mark.usefixtures("chosen_store")
async def test_a_server_that_speaks_tls_starts_a_console_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    temporary = tmp_path / "t"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    # Nothing of it names this machine, and clients need certificates of their own.
    pair = authority().issue("bus.example").save(tmp_path)
    listen = f"127.0.0.1:{free_port()}"
    flags = ("--console", f"127.0.0.1:{free_port()}", *pair.flags)
    flags += ("--tls-client-ca", str(authority().save(tmp_path)), "--auth", "required")
    cookies = httpx.Cookies()
    for again in (False, True):  # at its second start, the person and the cookie are known
        with serving(tmp_path, *flags, listen=listen) as (process, console):
            (folder,) = temporary.iterdir()
            assert folder.stat().st_mode & 0o077 == 0
            assert console.who == f"{PERSON} (human) at tls://{listen}"
            if not again:
                async with browser(console) as client:
                    cookies = client.cookies
            async with httpx.AsyncClient(base_url=console.url, cookies=cookies) as client:
                assert (await client.get("api/me")).json()["server"] == f"tls://{listen}"
                await client.post("api/threads", json={"thread": name})
                async with events(client, name) as stream:
                    await stream.next("thread")
                    given = {"thread": name, "text": "x"}
                    assert (await client.post("api/post", json=given)).json()["seq"] == 1 + again
                    await stream.messages(1 + again)
            process.send_signal(signal.SIGKILL if again else signal.SIGTERM)
            assert process.wait(30) == (-signal.SIGKILL if again else 0)
            await until(lambda: not [*temporary.iterdir()])
