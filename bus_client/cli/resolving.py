"""Checks whether the host name of a server can be resolved."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress

from bus_client.address import host_of
from bus_client.cli.daemon import in_daemon_thread

_PATIENCE = 1.0  # seconds to wait for the resolver
_PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")  # a proxy resolves the name


async def resolution_error(server: str) -> str:
    """Returns a sentence that says why the host name in `server` cannot be resolved; "" if it can.

    Also returns "" if the resolver takes more than a second, for a Unix socket, and if an HTTP
    proxy is set.
    """
    if server.startswith("unix:") or any(os.environ.get(name) for name in _PROXIES):
        return ""
    host = host_of(server)
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                await in_daemon_thread(lambda: socket.getaddrinfo(host, None))
    except (socket.gaierror, UnicodeError) as error:
        why = error.strerror if isinstance(error, socket.gaierror) else "not a host name"
        return f"The host name of {server} cannot be resolved: {why}."
    return ""
