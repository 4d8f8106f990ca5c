"""gRPC channels to a server, with their options. They cannot be used in forked processes.

gRPC does not survive fork(): its background threads do not exist in a forked process, and its locks
may be held. Calls there raise RuntimeError instead of hanging or crashing.
"""

from __future__ import annotations

import os

import grpc.aio

_MIB = 1024 * 1024
_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.keepalive_time_ms", 30_000),
    # Both of these timeouts are needed to detect a dead peer.
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", 16 * _MIB),
    # With the default of 120 s, agents would stay disconnected long after the server is back.
    ("grpc.initial_reconnect_backoff_ms", 250),
    ("grpc.max_reconnect_backoff_ms", 5_000),
)
_LOOPBACK = ("127.", "localhost", "[::1]", "unix:")

FORKED = (
    "This process was forked from one with a BusClient, and gRPC does not survive a fork: start it "
    "with the method `spawn`, or fork before the first client connects."
)

#: The pid of the process that opened channels; None if none has. A forked process inherits it.
_process: int | None = None


def open_channel(server: str, *, connection: int = 0) -> grpc.aio.Channel:
    """Returns a new channel. It belongs to the running event loop, and connects on first use.

    Args:
        server: `host:port` or `unix:PATH`.
        connection: The channels of a process to one server share a connection if their numbers are
            equal.

    Raises:
        RuntimeError: See refuse_fork().
    """
    global _process
    refuse_fork()
    _process = os.getpid()
    # gRPC ignores this option, but only channels with equal options share a connection.
    options = [*_OPTIONS, ("threadbus.connection", connection)]
    if server.startswith(_LOOPBACK):
        # Otherwise gRPC sends even local calls through the proxy that http_proxy names.
        options.append(("grpc.enable_http_proxy", 0))
    return grpc.aio.insecure_channel(server, options=options)


def refuse_fork() -> None:
    """Raises RuntimeError in a process that was forked from one that had opened a channel.

    This also applies if all channels were closed before the fork.
    """
    if forked():
        raise RuntimeError(FORKED)


def forked() -> bool:
    """Returns whether this process was forked from one that had opened a channel."""
    return _process not in (None, os.getpid())
