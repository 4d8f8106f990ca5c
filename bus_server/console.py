"""The console of `threadbus serve --console`: a process of its own beside the server."""

import asyncio
import contextlib
import logging
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from bus_server.listening import is_loopback
from bus_server.settings import Settings

logger = logging.getLogger(__name__)

#: Seconds for the console to end after SIGTERM, before it is killed.
END_TIMEOUT = 3.0


@contextlib.asynccontextmanager
async def console(settings: Settings, port: int, token_file: Path | None) -> AsyncIterator[None]:
    """Run a console until the end of the block, if the settings ask for one.

    It prints its address on standard output, and its errors on standard error. If it ends early,
    that is logged, and the server goes on. It also ends if the server dies, as its standard input
    is a pipe of the server.

    Args:
        settings: The server's settings.
        port: The port at which the server listens.
        token_file: The file of the operator's token, with which the console registers the person
            if needed. None: they are registered.
    """
    if not settings.console:
        yield
        return
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bus_client.cli", "console", "--no-open", "--while-stdin-is-open"),
        *("--listen", settings.console, "--as", settings.console_as),
        *("--server", _address(settings.listen, port)),
        *(("--token-file", str(token_file)) if token_file else ()),
        *(("--json",) if settings.json else ()),
        stdin=asyncio.subprocess.PIPE,
    )
    watching = asyncio.create_task(_watch(process))
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


async def _watch(process: asyncio.subprocess.Process) -> None:
    code = await process.wait()
    logger.error("the console ended with exit code %d: the server goes on without it", code)


def _address(listen: str, port: int) -> str:
    """Returns the address at which a process on this machine reaches the server."""
    if listen.startswith("unix:"):
        return listen
    host = listen.rpartition(":")[0]
    host = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)  # noqa: S104 - compared
    return f"{'' if is_loopback(f'{host}:{port}') else 'plaintext://'}{host}:{port}"
