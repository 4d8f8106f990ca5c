"""The gRPC channel to a server, and every option it is opened with."""

from __future__ import annotations

import os

import grpc.aio

_MIB = 1024 * 1024
_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.keepalive_time_ms", 30_000),
    # A dead peer is found only when both of these are set.
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", 16 * _MIB),
    # The default's 120 s would leave agents stranded long after the server is back.
    ("grpc.initial_reconnect_backoff_ms", 250),
    ("grpc.max_reconnect_backoff_ms", 5_000),
)
_LOOPBACK = ("127.", "localhost", "[::1]", "unix:")

FORKED = (
    "This process was forked from one with a BusClient, and gRPC cannot be forked: start it with "
    "the method `spawn`, or fork before the first client connects."
)

#: The process that opened the first channel; None before. A forked process inherits it.
_process: int | None = None


def open_channel(server: str, *, connection: int = 0) -> grpc.aio.Channel:
    """A channel to `server`, `host:port` or `unix:PATH`. Call it inside the running loop.

    Channels of this process to one server share a connection if their `connection` is the same.
    RuntimeError in a process that was forked after the first channel.
    """
    global _process
    refuse_fork()
    _process = os.getpid()
    # gRPC knows no such option: channels whose options differ share nothing.
    options = [*_OPTIONS, ("threadbus.connection", connection)]
    if server.startswith(_LOOPBACK):
        # Else a http_proxy variable sends even local calls to the proxy.
        options.append(("grpc.enable_http_proxy", 0))
    return grpc.aio.insecure_channel(server, options=options)


def refuse_fork() -> None:
    """Raises RuntimeError in a process that was forked from one that had opened a channel.

    Even if all of them are closed: gRPC's threads are not in this process, its locks may be held.
    """
    if forked():
        raise RuntimeError(FORKED)


def forked() -> bool:
    """Whether this process was forked from one that had opened a channel."""
    return _process not in (None, os.getpid())
