"""Builds a large ThreadBus file without a server, with the rows that a server would write.

build_store.py FILE [--threads N] [--messages N] [--size BYTES] [--no-request-ids]
"""

import argparse
import contextlib
import secrets
import sqlite3
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from numbering import content

from bus_server.store.sqlite import file
from threadbus.v1.agent_pb2 import AGENT_KIND_ANONYMOUS
from threadbus.v1.message_pb2 import MESSAGE_KIND_CHAT, PRIORITY_NORMAL, Message
from threadbus.v1.thread_pb2 import SYNC_MODE_OFF, THREAD_STATE_OPEN, Thread

_ROWS = 20_000  # per transaction
_SENDER = "anonymous"
_APART = 1_000_000  # microseconds between messages of a thread, and between threads


def thread_name(number: int) -> str:
    """Returns the name of a thread by its number, from 1."""
    return f"bench-{number}"


def build(
    path: Path, *, threads: int, messages: int, size: int = 256, request_ids: bool = True
) -> None:
    """Create the file: `messages` of `size` bytes, spread evenly over the threads.

    Message n of a thread, from 1, contains the number n - 1. The times of the threads' last
    activity differ and end now; their order is not that of the numbers.
    """
    with file.prepared(path):
        pass  # it is created
    now = time.time_ns() // 1000
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        # Without syncing: after a power failure, the file would be built again.
        db.execute("PRAGMA synchronous = OFF").fetchall()
        db.execute("BEGIN")
        db.executemany(
            "INSERT INTO thread (id, name, epoch, state, sync_mode, active_time, body)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                (
                    number,
                    thread_name(number),
                    secrets.token_hex(8),
                    THREAD_STATE_OPEN,
                    SYNC_MODE_OFF,
                    active_time,
                    _body(active_time - _count(number, threads, messages) * _APART),
                )
                for number in range(1, threads + 1)
                for active_time in (_active_time(number, threads, now),)
            ),
        )
        db.execute("COMMIT")
        places = _places(threads, messages, now)
        while part := list(islice(places, _ROWS)):
            ids = [secrets.token_hex(16) if request_ids else "" for _ in part]
            db.execute("BEGIN")
            db.executemany(
                "INSERT INTO message (id, time, sender, body) VALUES (?, ?, ?, ?)",
                _rows(part, ids, size),
            )
            if request_ids:
                db.executemany(
                    "INSERT INTO request (thread_id, sender, request_id, seq) VALUES (?, ?, ?, ?)",
                    (
                        (number, _SENDER, request_id, seq)
                        for (number, seq, _), request_id in zip(part, ids, strict=True)
                    ),
                )
            db.execute("COMMIT")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _body(create_time: int) -> bytes:
    """Returns the `body` column of a thread: a serialised Thread."""
    thread = Thread(creator=_SENDER)
    thread.create_time.FromMicroseconds(create_time)
    return thread.SerializeToString()


def _count(number: int, threads: int, messages: int) -> int:
    """Returns the number of messages of a thread, by its number."""
    return messages * number // threads - messages * (number - 1) // threads


def _active_time(number: int, threads: int, now: int) -> int:
    """Returns when a thread was last active, in microseconds since the epoch."""
    return now - number * 7_919 % threads * _APART


def _places(threads: int, messages: int, now: int) -> Iterator[tuple[int, int, int]]:
    """Yields (number of the thread, seq, time) of each message, in the order of the file."""
    for number in range(1, threads + 1):
        count = _count(number, threads, messages)
        active_time = _active_time(number, threads, now)
        for seq in range(1, count + 1):
            yield number, seq, active_time - (count - seq) * _APART


def _rows(
    places: list[tuple[int, int, int]], request_ids: list[str], size: int
) -> Iterator[tuple[int, int, str, bytes]]:
    message = Message(
        sender=_SENDER,
        sender_kind=AGENT_KIND_ANONYMOUS,
        kind=MESSAGE_KIND_CHAT,
        priority=PRIORITY_NORMAL,
    )
    for (number, seq, create_time), request_id in zip(places, request_ids, strict=True):
        message.thread, message.seq = thread_name(number), seq
        message.create_time.FromMicroseconds(create_time)
        message.content, message.request_id = content(seq - 1, size), request_id
        yield number << 32 | seq, create_time, _SENDER, message.SerializeToString()


def main() -> None:
    parser = argparse.ArgumentParser(description="Build a ThreadBus file of many messages.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--threads", type=int, default=1_000)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--no-request-ids", dest="request_ids", action="store_false")
    options = parser.parse_args()
    if options.file.exists():
        sys.exit(f"{options.file} exists")
    build(
        options.file,
        threads=options.threads,
        messages=options.messages,
        size=options.size,
        request_ids=options.request_ids,
    )


if __name__ == "__main__":
    main()
