"""Floods of frames, connections and streams without requests."""

import itertools
import socket
import time
from collections.abc import Callable

from grpc_health.v1.health_pb2 import HealthCheckRequest
from http2 import (
    CONTINUATION,
    HEADERS,
    PING,
    SETTINGS,
    Call,
    Connection,
    frame,
    header,
    headers,
)
from load import keep, spray
from prepare import call
from target import BUS, Attack, Outcome, Target

_WATCH = "/grpc.health.v1.Health/Watch"
#: Calls and connections to open at a time, and per second. This attack is about their total number;
#: opening thousands at once would be a burst, which is another attack.
_AT_ONCE, _RATE = 100, 2_500


def _frames(chunk: bytes) -> Callable[[Target], Outcome]:
    def run(target: Target) -> Outcome:
        target.ready()
        dropped = spray(target, lambda _: chunk)
        return Outcome(did=f"{dropped:,} connections dropped")

    return run


def _continuations(target: Target) -> Outcome:
    """Send endless headers for one call."""
    first = frame(HEADERS, 0, 1, headers("/a/b"))
    more = frame(CONTINUATION, 0, 1, header("x", "y" * 100)) * 100

    def chunk(connection: Connection) -> bytes:
        begun, connection.next_stream = connection.next_stream > 1, 3
        return more if begun else first + more

    target.ready()
    return Outcome(did=f"{spray(target, chunk):,} connections dropped")


def _connections(target: Target) -> Outcome:
    """Open connections and send nothing."""
    target.ready()
    opened, refused = list[socket.socket](), 0
    for number in range(4_000):
        time.sleep(max(0.0, number / _RATE - (target.seconds - target.left())))
        try:
            opened.append(socket.create_connection(("127.0.0.1", target.port), timeout=1))
        except OSError:
            refused += 1
    time.sleep(max(0.0, target.left()))
    for each in opened:
        each.close()
    return Outcome(did=f"{len(opened):,} connections, {refused:,} refused")


def _header_only(target: Target) -> Outcome:
    only = Call(headers(f"{BUS}/PostMessage"), b"", finished=False)
    target.ready()
    load = keep(target, lambda: only, in_flight=5_000, connections=5, at_once=_AT_ONCE, rate=_RATE)
    return Outcome(did=str(load))


def _watches(target: Target) -> Outcome:
    names = itertools.count()
    target.ready()

    def watch() -> Call:
        request = HealthCheckRequest(service=f"made-up-{next(names)}")
        return call(_WATCH, request.SerializeToString())

    load = keep(target, watch, in_flight=10_000, connections=10, at_once=_AT_ONCE, rate=_RATE)
    return Outcome(did=str(load))


ATTACKS = [
    Attack(name="pings", what="PING frames", run=_frames(frame(PING, 0, 0, bytes(8)) * 500)),
    Attack(name="settings", what="SETTINGS frames", run=_frames(frame(SETTINGS, 0, 0) * 500)),
    Attack(name="continuations", what="headers that never end", run=_continuations),
    Attack(name="connections", what="4,000 connections that send nothing", run=_connections),
    Attack(name="header-only", what="5,000 calls without a request", run=_header_only),
    Attack(
        name="health-watches",
        what="10,000 Health/Watch with made-up names",
        run=_watches,
        auth="required",
    ),
]
