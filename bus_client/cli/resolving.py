"""Whether the host name of a server can be resolved."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress

from bus_client.cli.daemon import in_daemon_thread

_PATIENCE = 1.0  # seconds for the resolver to say that there is no such name
_PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")  # a proxy resolves the name


async def resolution_error(server: str) -> str:
    """Returns why the host name in `server` cannot be resolved, as a sentence; "" if it can.

    Also "" if that is not known within a second, for a unix socket, and behind an HTTP proxy.
    """
    if server.startswith("unix:") or any(os.environ.get(name) for name in _PROXIES):
        return ""
    host = server.rpartition(":")[0].strip("[]")
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                await in_daemon_thread(lambda: socket.getaddrinfo(host, None))
    except (socket.gaierror, UnicodeError) as error:
        why = error.strerror if isinstance(error, socket.gaierror) else "not a host name"
        return f"The host name of {server} cannot be resolved: {why}."
    return ""
