"""Generates raw load over several connections: open calls, calls in flight, and bare frames."""

import select
import time
from collections.abc import Callable
from dataclasses import dataclass

from http2 import WIDEST, Call, Connection
from target import Target

#: Seconds before a connection that the server closed is opened again; a flood of connections is
#: another attack.
_RECONNECT = 0.02
#: Seconds between two passes over all connections.
_LOOK = 0.02


@dataclass(slots=True)
class Load:
    """The calls and bytes of a load, counted."""

    #: Calls opened, calls that ended with a status, and calls that the server reset.
    opened: int = 0
    answered: int = 0
    reset: int = 0
    #: Connections that the server closed.
    dropped: int = 0
    #: Bytes of requests that the server accepted.
    uploaded: int = 0

    def __str__(self) -> str:
        parts = [f"{self.opened:,} calls, {self.answered:,} answered"]
        if self.reset:
            parts.append(f"{self.reset:,} reset")
        if self.uploaded > 2**20:
            parts.append(f"{self.uploaded / 2**20:,.0f} MiB sent")
        if self.dropped:
            parts.append(f"{self.dropped:,} connections dropped")
        return ", ".join(parts)


def keep(
    target: Target,
    next_call: Callable[[], Call],
    *,
    in_flight: int,
    connections: int = 4,
    at_once: int | None = None,
    rate: float = float("inf"),
    window: int = WIDEST,
) -> Load:
    """Keep `in_flight` calls open over all connections until the attack ends.

    A connection has at most as many calls open as the server's settings allow.

    Args:
        at_once: calls to open at the start; default: all.
        rate: calls to open per second after that, including replacements of ended calls.
        window: bytes to accept of each response; default: all.
    """
    load = Load()
    share = -(-in_flight // connections)
    allowance = _Allowance(in_flight if at_once is None else at_once, rate)

    def handle(connection: Connection) -> None:
        connection.receive()
        if connection.settled and not connection.ended:
            room = min(share, connection.max_streams) - len(connection.open)
            for _ in range(allowance.take(room)):
                connection.start(next_call())
                load.opened += 1

    def left(connection: Connection) -> None:
        load.answered += connection.answers
        load.reset += connection.resets
        load.uploaded += connection.uploaded

    load.dropped = _run(
        target, lambda: Connection(target.port, window=window), connections, handle, left
    )
    return load


class _Allowance:
    """Limits how many calls may be opened: a number at once, then a number per second."""

    def __init__(self, first: int, rate: float) -> None:
        self._most = self._left = float(max(first, 1))
        self._rate = rate
        self._last = time.monotonic()

    def take(self, wanted: int) -> int:
        """Returns how many of `wanted` calls may be opened now, and counts them as opened."""
        if self._rate == float("inf"):
            return max(wanted, 0)
        now = time.monotonic()
        self._left = min(self._most, self._left + (now - self._last) * self._rate)
        self._last = now
        granted = max(min(wanted, int(self._left)), 0)
        self._left -= granted
        return granted


def spray(
    target: Target,
    next_chunk: Callable[[Connection], bytes | bytearray],
    *,
    connections: int = 4,
    acknowledging: int | None = None,
) -> int:
    """Send chunks of frames through every connection, as fast as possible, until the attack ends.

    Only the first `acknowledging` connections (default: all) acknowledge the server's settings.
    Returns the number of connections that the server closed.
    """
    count = 0

    def connect() -> Connection:
        nonlocal count
        count += 1
        number = (count - 1) % connections
        return Connection(target.port, acknowledge=acknowledging is None or number < acknowledging)

    def handle(connection: Connection) -> None:
        connection.receive()
        if connection.pending < 64 * 1024:
            connection.send(next_chunk(connection))

    return _run(target, connect, connections, handle, lambda _: None, spraying=True)


def _run(
    target: Target,
    connect: Callable[[], Connection],
    count: int,
    handle: Callable[[Connection], None],
    left: Callable[[Connection], None],
    *,
    spraying: bool = False,
) -> int:
    """Drive `count` connections until the attack ends. Closed ones are opened again.

    `handle` is called for a connection that is readable; for one that is writable, if it has data
    to write or is `spraying`; and for all connections from time to time. `left` is called for each
    connection before it is closed. Returns how many the server closed.
    """
    poll = select.epoll()
    by_file: dict[int, Connection] = {}
    due: list[float] = [0.0] * count
    dropped, looked = 0, 0.0
    while (remaining := target.left()) > 0:
        now = time.monotonic()
        while due and due[0] <= now:
            due.pop(0)
            try:
                connection = connect()
            except OSError:
                due.append(now + _RECONNECT)
                break
            by_file[connection.socket.fileno()] = connection
            poll.register(connection.socket.fileno(), select.EPOLLIN | select.EPOLLOUT)
        ready = [by_file[file] for file, _ in poll.poll(min(remaining, _LOOK))]
        if now > looked + _LOOK:
            ready, looked = list(by_file.values()), now
        for connection in ready:
            handle(connection)
            connection.flush()
            file = connection.socket.fileno()
            if connection.ended:
                dropped += 1
                left(connection)
                poll.unregister(file)
                del by_file[file]
                connection.close()
                due.append(now + _RECONNECT)
            else:
                writes = spraying or connection.wants_to_write
                poll.modify(file, select.EPOLLIN | (select.EPOLLOUT if writes else 0))
    for connection in by_file.values():
        left(connection)
        connection.close()
    poll.close()
    return dropped
