"""gRPC channels to a server, with their options. They cannot be used in forked processes.

gRPC does not survive fork(): its background threads do not exist in a forked process, and its locks
may be held. Calls there raise RuntimeError instead of hanging or crashing.
"""

from __future__ import annotations

import os

import grpc.aio

from bus_client.address import endpoint, host_of, is_local

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

FORKED = (
    "This process was forked from one with a BusClient, and gRPC does not survive a fork: start it "
    "with the method `spawn`, or fork before the first client connects."
)

#: The pid of the process that opened channels; None if none has. A forked process inherits it.
_process: int | None = None


def open_channel(
    server: str, credentials: grpc.ChannelCredentials | None, *, connection: int = 0
) -> grpc.aio.Channel:
    """Returns a new channel. It belongs to the running event loop, and connects on first use.

    Args:
        server: A whole address; see whole_address(). `localhost` is 127.0.0.1.
        credentials: Of gRPC, for an encrypted address; see Tls.credentials_for().
        connection: The channels of a process to one server share a connection if their numbers are
            equal.

    Raises:
        RuntimeError: See refuse_fork().
    """
    global _process
    refuse_fork()
    _process = os.getpid()
    # gRPC ignores this option, but only channels with equal options share a connection.
    options: list[tuple[str, int | str]] = [*_OPTIONS, ("threadbus.connection", connection)]
    if is_local(server):
        # Otherwise gRPC sends even local calls through the proxy that http_proxy names.
        options.append(("grpc.enable_http_proxy", 0))
    target, host = endpoint(server), host_of(server)
    if host.lower() == "localhost":
        # Only what the user's server listens on: another user may listen on [::1]. Both names share
        # the tokens in the credentials file.
        target = f"127.0.0.1:{target.rpartition(':')[2]}"
    if credentials is None:
        return grpc.aio.insecure_channel(target, options=options)
    if host.lower() == "localhost":
        options.append(("grpc.ssl_target_name_override", "localhost"))
    return grpc.aio.secure_channel(target, credentials, options=options)


def refuse_fork() -> None:
    """Raises RuntimeError in a process that was forked from one that had opened a channel.

    This also applies if all channels were closed before the fork.
    """
    if forked():
        raise RuntimeError(FORKED)


def forked() -> bool:
    """Returns whether this process was forked from one that had opened a channel."""
    return _process not in (None, os.getpid())
