"""The console of `threadbus serve --console`: a process of its own beside the server."""

import asyncio
import contextlib
import logging
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

from bus_server.listening import ServeError, is_loopback
from bus_server.settings import Settings

logger = logging.getLogger(__name__)
#: Gets what the console prints on standard error.
output = logging.getLogger("threadbus.console")

#: Seconds for the console to end after SIGTERM, before it is killed.
END_TIMEOUT = 3.0


@contextlib.contextmanager
def address(
    settings: Settings, port: int, add_port: Callable[[str], int]
) -> Iterator[tuple[str, ...]]:
    """Yields the options with which a console finds the server.

    With TLS, the server also listens on a Unix socket for it until the end of the block, in a
    folder that only the server's user can enter: its certificate need not name this machine, may be
    renewed, and clients may need certificates of their own.

    Args:
        settings: The server's settings.
        port: The port at which it listens.
        add_port: gRPC's `add_insecure_port`.

    Raises:
        ServeError: The socket cannot be created.
    """
    known = _address(settings.listen, port, tls=settings.tls_cert is not None)
    if not settings.console or settings.tls_cert is None:
        yield "--server", known
        return
    try:
        folder = tempfile.TemporaryDirectory(prefix="threadbus-", ignore_cleanup_errors=True)
    except OSError as error:
        raise ServeError(f"--console: cannot create a folder for a socket: {error}") from error
    with folder:
        socket = f"unix:{Path(folder.name).absolute()}/console"
        try:
            add_port(socket)
        except RuntimeError as error:
            raise ServeError(f"--console: cannot listen on {socket}: set TMPDIR") from error
        yield "--server", socket, "--known-as", known


@contextlib.asynccontextmanager
async def console(
    settings: Settings, server: Sequence[str], token_file: Path | None
) -> AsyncIterator[None]:
    """Run a console until the end of the block, if the settings ask for one.

    It prints its address on standard output, and its errors on standard error, or into the log if
    that is in JSON. If it ends early, that is logged, and the server goes on. It also ends if the
    server dies, as its standard input is a pipe of the server.

    Args:
        settings: The server's settings.
        server: What address() has yielded.
        token_file: The file of the operator's token, with which the console registers the person
            if needed. None: they are registered.
    """
    if not settings.console:
        yield
        return
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bus_client.cli", "console", "--no-open", "--while-stdin-is-open"),
        *("--listen", settings.console, "--as", settings.console_as),
        *server,
        *(("--token-file", str(token_file)) if token_file else ()),
        *(("--json",) if settings.json else ()),
        stdin=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE if settings.log_format == "json" else None,
    )
    watching = asyncio.create_task(_watch(process))
    logging_output = asyncio.create_task(_log(process.stderr))
    try:
        yield
    finally:
        watching.cancel()
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), END_TIMEOUT)
        except TimeoutError:
            process.kill()
            await process.wait()
        await asyncio.wait([logging_output], timeout=END_TIMEOUT)


async def _watch(process: asyncio.subprocess.Process) -> None:
    code = await process.wait()
    logger.error("the console ended with exit code %d: the server goes on without it", code)


async def _log(stream: asyncio.StreamReader | None) -> None:
    """Log each line of a stream, to its end."""
    while stream is not None:
        try:
            line = await stream.readline()
        except ValueError:  # it is too long
            continue
        if not line:
            return
        output.warning("%s", line.decode("utf-8", "replace").rstrip())


def _address(listen: str, port: int, *, tls: bool) -> str:
    """Returns the address at which a process on this machine reaches the server."""
    if listen.startswith("unix:"):
        return listen
    host = listen.rpartition(":")[0]
    host = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)  # noqa: S104 - compared
    if tls:
        return f"tls://{host}:{port}"
    return f"{'' if is_loopback(f'{host}:{port}') else 'plaintext://'}{host}:{port}"
