"""Serves a console over HTTP, until the process is stopped."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import logging
import os
import resource
import secrets
import socket
import ssl
import threading
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import click
import platformdirs
import uvicorn

from bus_client.cli.console import certificate
from bus_client.cli.console.connection import Connection
from bus_client.cli.console.gate import Gate
from bus_client.cli.console.http import Http
from bus_client.cli.console.hub import Hub
from bus_client.cli.console.site import Site
from bus_client.cli.console.web import application
from bus_client.cli.daemon import in_daemon_thread
from bus_client.cli.session import Session
from bus_client.cli.text import safe

_PATIENCE = 3.0  # seconds for the bus to answer before the address is printed
_LAST_RESPONSES = 1  # seconds for open responses at the end
_MAX_CONNECTIONS = 1_000  # further ones get the status 503, if these have requests
_BACKLOG = 1_000  # connections that are accepted at once
_KEY_SIZE = 32  # bytes of the key for cookies


class _Server(uvicorn.Server):
    """uvicorn, which leaves signals to this program."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """See uvicorn."""
        yield


async def serve(
    session: Session, known_as: str, site: Site, *, open_page: bool, until_eof: bool
) -> None:
    """Serve a console until the task is cancelled. Prints its address first.

    Args:
        session: For whom it acts, and where it reaches the server.
        known_as: The server's address for users, under which tokens are kept.
        site: Where it listens.
        open_page: Whether to open the page in the user's browser.
        until_eof: Whether to stop when standard input ends: a parent process holds its other end.

    Raises:
        BusError: The server has refused the agent or the token.
        click.ClickException: The console cannot listen at the address, or not use a file.
    """
    _raise_file_limit()
    with _listening(site) as listener:
        port = listener.getsockname()[1]
        urls = site.urls(port)
        connection = Connection(session, known_as)
        hub = Hub(connection)
        gate = Gate(
            urls=urls,
            any_address=site.any_address,
            port=port,
            key=_key(),
            identity=f"{session.agent or _hash(session.token)} {known_as}",
        )
        secure, path = urls[0].startswith("https:"), urlsplit(urls[0]).path
        app = application(connection, hub, gate, secure=secure, path=path)
        tls = _tls(site)
        server = _Server(_config(app, tls))
        connecting = asyncio.create_task(connection.run())
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        tasks = [connecting, serving, asyncio.create_task(hub.overview.run())]
        if tls and site.certificate and site.key:
            watch = certificate.follow(tls, site.certificate, site.key)
            tasks.append(asyncio.create_task(watch))
        if until_eof:
            wait = functools.partial(_wait_for_parent, session.server, known_as)
            tasks.append(asyncio.create_task(in_daemon_thread(wait)))
        try:
            await _first_answer(connection, connecting)
            _announce(session, connection, f"{urls[0]}#token={gate.secret}", open_page=open_page)
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await hub.close()
            # Responses that nobody reads are cut off; uvicorn would log a traceback for each.
            logging.getLogger("uvicorn.error").disabled = True
            server.should_exit = True
            await asyncio.wait([serving])
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.result()


async def _first_answer(connection: Connection, connecting: asyncio.Task[None]) -> None:
    """Wait until the bus answers, for a while. Raises BusError if it refuses the console."""
    ready = asyncio.create_task(connection.ready.wait())
    try:
        done, _ = await asyncio.wait(
            [ready, connecting], timeout=_PATIENCE, return_when=asyncio.FIRST_COMPLETED
        )
    finally:
        ready.cancel()
    if connecting in done:
        await connecting


def _announce(session: Session, connection: Connection, address: str, *, open_page: bool) -> None:
    kind = f" ({connection.kind})" if connection.kind else ""
    who = f"{safe(connection.agent)}{kind} at {safe(connection.server)}"
    session.out.show(
        {"url": address, "agent": connection.agent, "server": connection.server},
        [f"console {address} · {who}"],
    )
    if not connection.kind:
        session.out.note(f"{connection.server} does not answer yet; the page says when it does.")
    if open_page:
        threading.Thread(target=_open, args=(address,), daemon=True).start()


def _open(address: str) -> None:
    """Open a page in the user's browser. Returns at its end if it runs in the terminal."""
    with suppress(webbrowser.Error):
        webbrowser.open(address)


@contextmanager
def _listening(site: Site) -> Iterator[socket.socket]:
    """Yields a socket that listens. Raises click.ClickException, which says why it cannot."""
    host, port = site.listen
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        why = error.strerror or str(error)
        raise click.ClickException(
            f"The console cannot listen at {host}:{port}: {why}. Choose another --listen."
        ) from None
    with listener:
        yield listener


def _tls(site: Site) -> ssl.SSLContext | None:
    """Returns what a site needs for HTTPS. Raises click.ClickException for files of no use."""
    if site.certificate is None or site.key is None:
        return None
    try:
        return certificate.load(site.certificate, site.key)
    except OSError as error:  # also ssl.SSLError
        why = error.strerror or str(error)
        raise click.ClickException(f"--tls-cert and --tls-key cannot be used: {why}.") from None


def _config(app: object, tls: ssl.SSLContext | None) -> uvicorn.Config:
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        log_config=None,
        log_level="error",  # a lower one logs each request that is not HTTP
        http=functools.partial(Http, tls=tls),  # type: ignore[arg-type]
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_MAX_CONNECTIONS,
        backlog=_BACKLOG,
        timeout_graceful_shutdown=_LAST_RESPONSES,
        lifespan="off",
        ws="none",
    )
    logging.getLogger("uvicorn.error").addFilter(_is_worth_logging)
    return config


def _raise_file_limit() -> None:
    """Allow this process as many open files as it may need, if the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_CONNECTIONS + _BACKLOG + 200
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _is_worth_logging(record: logging.LogRecord) -> bool:
    """Returns False for responses that were broken off on purpose, which have said why."""
    return not record.getMessage().startswith("ASGI callable returned without completing")


def _wait_for_parent(server: str, known_as: str) -> None:
    """Return when standard input has ended.

    A server that is known under another address listens at this one for this console only. If it
    was killed, it leaves a Unix socket in a folder of its own: both are removed.
    """
    while os.read(0, 4_096):
        pass
    private = Path(server.removeprefix("unix:"))
    if server != known_as and private.is_socket():
        with suppress(OSError):
            private.unlink()
            private.parent.rmdir()


def _hash(token: str | None) -> str:
    return hashlib.sha256((token or "").encode()).hexdigest()


def _key() -> bytes:
    """Returns the key for cookies, which is created if needed.

    Raises click.ClickException for a file that has no whole key, and OSError.
    """
    file = Path(platformdirs.user_data_dir("threadbus")) / "console-key"
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError):
        part = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
        new = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(new, "wb") as opened:
                opened.write(secrets.token_bytes(_KEY_SIZE))
                opened.flush()
                os.fsync(new)
            file.hardlink_to(part)
        finally:
            part.unlink()
    key = file.read_bytes()
    if len(key) != _KEY_SIZE:  # anybody could sign with an empty one
        raise click.ClickException(f"{file} is damaged: delete it; browsers then log in again.")
    return key
