"""A gRPC client of little CPU time, for ThreadBus or the floor; see http2.py.

poisson   posts at random times (a Poisson process), `rate` posts/s on average, whether or not
          earlier posts were answered; the latency of a post counts from when it was due.
          h2load's --timing-script-file cannot do this: it starts each pause when the last one
          ended, rounded up to a millisecond, and so made 890 posts/s when 1,500 were due
posts     posts to `threads` in turn, `in_flight` at once
fan_out   `waits` waits on one thread; posts the next message when all of them have the last. With
          a file of agents' tokens, each wait is of an agent, as by follow()
frames    the floor's prepared frames, to one reader
"""

import gc
import json
import random
import select
import struct
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from http2 import Connection, headers, message
from numbering import content, faults, number_of
from results import percentile

from threadbus.v1.bus_service_pb2 import (
    PostMessageRequest,
    WaitMessagesRequest,
    WaitMessagesResponse,
)
from threadbus.v1.message_pb2 import Cursor, MessageFilter

_SERVICE = "threadbus.v1.BusService"
_CONNECTIONS = 4  # for posts, as with h2load
_ON_A_CONNECTION = 100  # waits, as in the SDK
_OPENING = 500  # waits opened at once; a server may refuse a burst of thousands
_LONGEST = 200.0  # seconds for `posts`
_GRACE = 30.0  # seconds for the remaining responses
_LEAST = 200  # bytes of a frame with a message; those without are shorter


def poisson(job: dict[str, Any]) -> dict[str, Any]:
    """Returns the latency of each answered post, and how late the client sent posts, in seconds."""
    chance = random.Random(job["seed"])  # noqa: S311 - not for secrets
    due, at = list[float](), 0.0
    for _ in range(job["count"]):
        at += chance.expovariate(job["rate"])
        due.append(at)
    return _post(job, due)


def posts(job: dict[str, Any]) -> dict[str, Any]:
    """Returns the time until all posts were answered, their latencies, and how many failed."""
    return _post(job, None)


def _post(job: dict[str, Any], due: list[float] | None) -> dict[str, Any]:
    """Send each post when it is due, or keep `in_flight` of them unanswered."""
    count, threads = job["count"], job["threads"]
    head = headers(job["address"], f"{_SERVICE}/PostMessage")
    requests = [
        message(
            PostMessageRequest(
                thread=threads[number % len(threads)], content=content(number, job["size"])
            ).SerializeToString()
        )
        for number in range(count)
    ]
    connections = [Connection(job["address"]) for _ in range(min(_CONNECTIONS, count))]
    began = [0.0] * count
    taken, late = list[float](), list[float]()
    calls: dict[tuple[Connection, int], int] = {}
    answered: set[tuple[Connection, int]] = set()
    sent = failed = 0
    start = time.perf_counter() + 0.05
    give_up = start + (due[-1] if due else _LONGEST) + _GRACE
    while len(taken) + failed < count:
        now = time.perf_counter()
        while sent < count and (
            start + due[sent] <= now if due else sent - len(taken) - failed < job["in_flight"]
        ):
            began[sent] = start + due[sent] if due else now
            late.append(now - began[sent])
            connection = connections[sent % len(connections)]
            calls[connection, connection.call(head, requests[sent])] = sent
            sent += 1
        pause = start + due[sent] - now if due and sent < count else 1.0
        for connection in _readable(connections, pause):
            data, ended = connection.receive()
            now = time.perf_counter()
            answered.update((connection, stream) for stream, _ in data)
            for stream in ended:
                number = calls.pop((connection, stream))
                if (connection, stream) in answered:
                    taken.append(now - began[number])
                else:
                    failed += 1
        if now > give_up:
            failed = count - len(taken)
    return {
        "seconds": time.perf_counter() - start,
        "taken": taken,
        "failed": ["no response"] * failed,
        "late_p99": percentile(late, 99),
    }


def _readable(connections: list[Connection], pause: float) -> list[Connection]:
    """Write what is due, then wait until responses arrive, at most `pause` seconds."""
    blocked = [connection for connection in connections if not connection.flush()]
    # select() sleeps for microseconds; epoll would round up to milliseconds.
    readable, _, _ = select.select(connections, blocked, [], max(pause, 0.0))
    return readable


def fan_out(job: dict[str, Any]) -> dict[str, Any]:
    """Returns the seconds from each post until the last wait had its message, and the faults."""
    address, waits, count, thread = job["address"], job["waits"], job["count"], job["thread"]
    request = message(
        WaitMessagesRequest(
            threads=[Cursor(thread=thread, after_seq=0)],
            filter=MessageFilter(exclude_own=bool(job["tokens"])),
        ).SerializeToString()
    )
    tokens = Path(job["tokens"]).read_text("ascii").split() if job["tokens"] else [""] * waits
    posting = Connection(address)
    connections = [Connection(address) for _ in range(-(-waits // _ON_A_CONNECTION))]
    got: dict[tuple[Connection, int], bytearray] = defaultdict(bytearray)
    for number, token in enumerate(tokens[:waits]):
        metadata = [("authorization", f"Bearer {token}")] if token else []
        head = headers(address, f"{_SERVICE}/WaitMessages", metadata)
        connections[number // _ON_A_CONNECTION].call(head, request)
        while len(got) < number + 1 - (_OPENING if number + 1 < waits else 0):
            for connection in _readable(connections, 1.0):
                _keep(got, connection)
    print("ready", flush=True)
    sys.stdin.readline()
    head = headers(address, f"{_SERVICE}/PostMessage")
    taken = list[float]()
    for number in range(count):
        body = PostMessageRequest(thread=thread, content=content(number, job["size"]))
        left = waits
        start = time.perf_counter()
        posting.call(head, message(body.SerializeToString()))
        while left > 0 and time.perf_counter() < start + _GRACE:
            for connection in _readable([posting, *connections], 1.0):
                if connection is posting:
                    posting.receive()
                else:
                    left -= _keep(got, connection)
        taken.append(time.perf_counter() - start)
        time.sleep(job["pause"])
    counts = [faults(_numbers(received), range(count)) for received in got.values()]
    return {
        "taken": taken,
        "lost": sum(each["lost"] for each in counts),
        "duplicated": sum(each["duplicated"] for each in counts),
    }


def _keep(got: dict[tuple[Connection, int], bytearray], connection: Connection) -> int:
    """Keep what has arrived on a connection. Returns the number of messages in it."""
    messages = 0
    found, ended = connection.receive()
    for stream, data in found:
        got[connection, stream] += data
        messages += len(data) >= _LEAST
    if ended:
        raise RuntimeError("the server ended a wait")
    return messages


def _numbers(received: bytes) -> Iterator[int]:
    """Yields the numbers of the messages in the responses of one wait."""
    at = 0
    while at < len(received):
        (length,) = struct.unpack_from(">I", received, at + 1)
        at += 5 + length
        response = WaitMessagesResponse.FromString(bytes(received[at - length : at]))
        yield from (number_of(each.content) for each in response.messages.messages)


def frames(job: dict[str, Any]) -> dict[str, Any]:
    """Returns the seconds taken to receive the prepared frames from the floor."""
    connection, got = Connection(job["address"]), 0
    start = time.perf_counter()
    request = message(struct.pack(">II", job["count"], job["size"]))
    connection.call(headers(job["address"], "floor.Floor/Frames"), request)
    while True:
        _readable([connection], 1.0)
        found, ended = connection.receive()
        got += len(found)
        if ended:
            return {"seconds": time.perf_counter() - start, "got": got}


if __name__ == "__main__":
    gc.disable()
    job = json.loads(sys.argv[1])
    doing = {"poisson": poisson, "posts": posts, "fan_out": fan_out, "frames": frames}
    print(json.dumps(doing[job["do"]](job)))
