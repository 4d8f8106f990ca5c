"""Responses and frames that are requested and never read."""

from collections.abc import Callable

from http2 import Call, headers, message
from load import keep
from prepare import call, large, posts, prepare, threads
from target import BUS, MIB, Attack, Outcome, Target

from threadbus.v1.bus_service_pb2 import (
    ListMessagesRequest,
    PostMessageRequest,
    PostMessagesRequest,
    WaitMessagesRequest,
)
from threadbus.v1.message_pb2 import Cursor

_THREAD = "unread"
#: Bytes to accept of each response: enough for the `started` frame, too few for a message.
_WINDOW = 1_024
#: Calls to open at once, and per second after that, including replacements of refused ones. More
#: would be a flood of calls, which is another attack.
_AT_ONCE, _RATE = 50, 250
#: The largest possible attachment: the message's other fields need a few bytes, too.
_LARGEST = 3 * MIB - 300


def _waits(count: int, messages: int, size: int, connections: int) -> Callable[[Target], Outcome]:
    def run(target: Target) -> Outcome:
        prepare(target, threads([_THREAD]), posts([large(_THREAD, size)] * messages))
        request = WaitMessagesRequest(threads=[Cursor(thread=_THREAD)])
        wait = call("WaitMessages", request.SerializeToString())
        target.ready()
        load = keep(
            target,
            lambda: wait,
            in_flight=count,
            connections=connections,
            at_once=_AT_ONCE,
            rate=_RATE,
            window=_WINDOW,
        )
        return Outcome(did=str(load))

    return run


def _lists(target: Target) -> Outcome:
    prepare(target, threads([_THREAD]), posts([large(_THREAD, _LARGEST)]))
    request = call("ListMessages", ListMessagesRequest(thread=_THREAD).SerializeToString())
    target.ready()
    load = keep(
        target,
        lambda: request,
        in_flight=150,
        connections=5,
        at_once=_AT_ONCE,
        rate=_RATE,
        window=0,
    )
    return Outcome(did=str(load))


def _streams(target: Target) -> Outcome:
    prepare(target, threads([_THREAD]))
    post = PostMessageRequest(thread=_THREAD, content="x" * (MIB - 1))
    request = message(PostMessagesRequest(posts=[post] * 3).SerializeToString())
    stream = Call(headers(f"{BUS}/PostMessages"), request * 20, finished=False)
    target.ready()
    load = keep(target, lambda: stream, in_flight=40, at_once=_AT_ONCE, rate=_RATE, window=0)
    return Outcome(did=str(load))


def _posts(target: Target) -> Outcome:
    prepare(target, threads([_THREAD]))
    post = call(
        "PostMessage",
        PostMessageRequest(thread=_THREAD, content="x" * (MIB - 1)).SerializeToString(),
    )
    target.ready()
    return Outcome(did=str(keep(target, lambda: post, in_flight=400)))


ATTACKS = [
    Attack(
        name="unread-waits",
        what="500 waits for 12 messages of 3 MiB, none of which is read",
        run=_waits(500, 12, _LARGEST, 5),
    ),
    Attack(
        name="unread-waits-1mib",
        what="300 waits for 40 messages of 1 MiB, none of which is read",
        run=_waits(300, 40, MIB - 300, 6),
    ),
    Attack(
        name="unread-lists",
        what="150 pages of 3 MiB, none of which is read",
        run=_lists,
    ),
    Attack(
        name="unread-posts",
        what="40 streams of PostMessages with 3 MiB a request, whose responses are not read",
        run=_streams,
    ),
    Attack(
        name="posts-in-flight",
        what="400 PostMessage of 1 MiB in flight",
        run=_posts,
    ),
]
