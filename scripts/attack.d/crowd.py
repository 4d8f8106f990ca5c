"""Permitted calls of one caller that are numerous or expensive enough to starve others."""

import itertools
import secrets
import time
from collections.abc import Callable, Iterable, Sequence

import grpc
from google.protobuf.duration_pb2 import Duration
from http2 import Call
from load import keep
from prepare import agents, call, joined, posts, prepare, threads, token
from target import MIB, Attack, Outcome, Target

from threadbus.v1 import agent_service_pb2, thread_service_pb2
from threadbus.v1.agent_service_pb2 import GetAgentRequest
from threadbus.v1.bus_service_pb2 import (
    HeartbeatRequest,
    ListMessagesRequest,
    PostMessageRequest,
    PostMessagesRequest,
    WaitMessagesRequest,
)
from threadbus.v1.message_pb2 import Cursor, MessageFilter
from threadbus.v1.thread_service_pb2 import DeleteThreadRequest, ListThreadsRequest
from threadbus.v1.thread_service_pb2_grpc import ThreadServiceStub

_THREAD = "crowd"
_THREADS = f"/{thread_service_pb2.DESCRIPTOR.services_by_name['ThreadService'].full_name}"
_AGENTS = f"/{agent_service_pb2.DESCRIPTOR.services_by_name['AgentService'].full_name}"
#: No agent has this name: a filter for it scans every message and matches none.
_NOBODY = MessageFilter(senders=["nobody"])
Prepare = Callable[[Target], None]


def _in_flight(
    count: int, calls: Callable[[], Call], before: Prepare, *, connections: int = 4
) -> Callable[[Target], Outcome]:
    """Returns an attack that keeps `count` calls open: each one that ends is replaced."""

    def run(target: Target) -> Outcome:
        before(target)
        target.ready()
        return Outcome(did=str(keep(target, calls, in_flight=count, connections=connections)))

    return run


def _always(method: str, request: bytes) -> Callable[[], Call]:
    same = call(method, request)
    return lambda: same


def _post(size: int) -> Callable[[], Call]:
    post = PostMessageRequest(thread=_THREAD, content="x" * size)
    return _always("PostMessage", post.SerializeToString())


def _wait(message_filter: MessageFilter | None) -> Callable[[], Call]:
    """Returns a function that creates calls to replay the thread."""
    request = WaitMessagesRequest(
        threads=[Cursor(thread=_THREAD)], filter=message_filter, max_wait=Duration()
    )
    return _always("WaitMessages", request.SerializeToString())


def _empty(target: Target) -> None:
    prepare(target, threads([_THREAD]))


def _messages(count: int) -> Prepare:
    post = PostMessageRequest(thread=_THREAD, content="x" * 100)
    return lambda target: prepare(target, threads([_THREAD]), posts([post] * count))


def _names(count: int) -> list[str]:
    return [f"crowd-{number}" for number in range(count)]


def _mentioning(threads_: Iterable[str], names: Sequence[str]) -> list[PostMessageRequest]:
    return [
        PostMessageRequest(thread=thread, content="x", mentions=names[start : start + 32])
        for thread in threads_
        for start in range(0, len(names), 32)
    ]


def _participants(target: Target) -> None:
    """Make 4,000 agents participants by mentioning them."""
    names = _names(4_000)
    tokens = {name: token(number) for number, name in enumerate(names)}
    prepare(target, threads([_THREAD]), agents(tokens), posts(_mentioning([_THREAD], names)))


def _watch_participants() -> Callable[[], Call]:
    request = WaitMessagesRequest(
        threads=[Cursor(thread=_THREAD)], include_participants=True, max_wait=Duration(seconds=2)
    )
    return _always("WaitMessages", request.SerializeToString())


def _long_heartbeats() -> Callable[[Target], Outcome]:
    """Heartbeats of 400 agents, each of which reports 1,000 read cursors."""
    names = _names(1_000)
    tokens = [token(number) for number in range(400)]

    def before(target: Target) -> None:
        prepare(
            target,
            threads(names),
            agents({f"agent-{number}": each for number, each in enumerate(tokens)}),
            posts(_mentioning(names, [f"agent-{number}" for number in range(32)])),
        )

    request = HeartbeatRequest(
        read_cursors=[Cursor(thread=name, after_seq=1) for name in names]
    ).SerializeToString()
    calls = itertools.cycle([call("Heartbeat", request, each) for each in tokens])
    return _in_flight(400, lambda: next(calls), before)


def _wanted_heartbeats() -> Callable[[Target], Outcome]:
    """Heartbeats of an agent that was mentioned in 20,000 threads."""

    def before(target: Target) -> None:
        names = _names(20_000)
        prepare(
            target,
            threads(names),
            agents({"wanted": token(1)}),
            posts(_mentioning(names, ["wanted"])),
        )

    heartbeat = call("Heartbeat", HeartbeatRequest().SerializeToString(), token(1))
    return _in_flight(8, lambda: heartbeat, before)


def _recipients() -> Callable[[Target], Outcome]:
    tokens = {name: token(number) for number, name in enumerate(_names(100))}
    post = PostMessageRequest(thread=_THREAD, content="x", include_recipients=True)
    batch = PostMessagesRequest(posts=[post] * 1_000).SerializeToString()
    return _in_flight(
        4,
        _always("PostMessages", batch),
        lambda target: prepare(
            target, threads([_THREAD]), agents(tokens), joined(_THREAD, tokens.values())
        ),
    )


def _random_tokens() -> Callable[[Target], Outcome]:
    request = GetAgentRequest(agent="innocent").SerializeToString()
    return _in_flight(
        64, lambda: call(f"{_AGENTS}/GetAgent", request, secrets.token_urlsafe(32)), _empty
    )


def _delete(target: Target) -> Outcome:
    """Delete one thread of 150,000 messages."""
    _messages(150_000)(target)
    with grpc.insecure_channel(target.address) as channel:
        stub = ThreadServiceStub(channel)
        target.ready()
        stub.DeleteThread(DeleteThreadRequest(thread=_THREAD), timeout=20)
        taken = target.seconds - target.left()
        # The server goes on purging the thread.
        time.sleep(max(0.0, target.left()))
        return Outcome(did=f"returned after {taken:.1f} s")


def _attack(name: str, what: str, run: Callable[[Target], Outcome]) -> Attack:
    return Attack(name=f"crowd-{name}", what=what, run=run)


ATTACKS = [
    _attack(
        "posts",
        "1,000 posts of 100 B in flight on one connection",
        _in_flight(1_000, _post(100), _empty, connections=1),
    ),
    _attack("large-posts", "64 posts of 1 MiB in flight", _in_flight(64, _post(MIB - 1), _empty)),
    _attack(
        "scans",
        "8 ListMessages in flight, each scanning 10,000 messages without a match",
        _in_flight(
            8,
            _always(
                "ListMessages",
                ListMessagesRequest(thread=_THREAD, filter=_NOBODY).SerializeToString(),
            ),
            _messages(100_000),
        ),
    ),
    _attack(
        "filtered-replays",
        "8 waits in flight, each scanning 100,000 messages without a match",
        _in_flight(8, _wait(_NOBODY), _messages(100_000)),
    ),
    _attack(
        "replays",
        "8 waits in flight, each replaying 100,000 messages",
        _in_flight(8, _wait(None), _messages(100_000)),
    ),
    _attack(
        "cursors", "400 agents' heartbeats in flight, each of 1,000 cursors", _long_heartbeats()
    ),
    _attack(
        "participants",
        "300 waits that watch 4,000 participants, renewed every 2 s",
        _in_flight(300, _watch_participants(), _participants),
    ),
    _attack("recipients", "4 batches of 1,000 posts with recipients in flight", _recipients()),
    _attack("tokens", "64 calls in flight with unknown tokens", _random_tokens()),
    _attack(
        "mentioned",
        "8 heartbeats in flight of an agent that was mentioned in 20,000 threads",
        _wanted_heartbeats(),
    ),
    _attack(
        "listings",
        "16 ListThreads of 1,000 threads in flight",
        _in_flight(
            16,
            _always(
                f"{_THREADS}/ListThreads", ListThreadsRequest(page_size=1_000).SerializeToString()
            ),
            lambda target: prepare(target, threads(_names(2_000))),
        ),
    ),
    _attack("delete", "DeleteThread of a thread with 150,000 messages", _delete),
]
