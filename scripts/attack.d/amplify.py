"""Small requests that make the server load, keep or send large messages repeatedly."""

from collections.abc import Callable, Iterator

import grpc
from load import keep
from prepare import agents, bearer, call, joined, large, posts, prepare, threads, token
from target import MIB, Attack, Outcome, Target

from bus_client.status import from_status
from threadbus.v1 import thread_service_pb2
from threadbus.v1.bus_service_pb2 import (
    GetMessageRequest,
    ListMessagesRequest,
    PostMessageRequest,
    PostMessagesRequest,
    PostMessagesResponse,
)
from threadbus.v1.bus_service_pb2_grpc import BusServiceStub
from threadbus.v1.thread_service_pb2 import JoinThreadRequest

_THREAD, _ID = "large", "R"
_SENDER = token(1)
_LARGEST = 3 * MIB - 300
#: Seconds within which a batch must have its response.
_ANSWER = 30.0
_JOIN = f"/{thread_service_pb2.DESCRIPTOR.services_by_name['ThreadService'].full_name}/JoinThread"
_REUSED = PostMessageRequest(thread=_THREAD, content="e", request_id=_ID)


def _answers(
    target: Target, batch: PostMessagesRequest, token_: str = ""
) -> Iterator[PostMessagesResponse]:
    """Send a batch repeatedly, by a client with default options. Yields the responses."""
    target.ready()
    with grpc.insecure_channel(target.address) as channel:
        stub = BusServiceStub(channel)
        while target.left() > 0:
            yield next(
                iter(stub.PostMessages(iter([batch]), metadata=bearer(token_), timeout=_ANSWER))
            )


def _reused(count: int) -> Callable[[Target], Outcome]:
    def run(target: Target) -> Outcome:
        prepare(target, threads([_THREAD]), posts([large(_THREAD, _LARGEST, _ID)]))
        batches, others = 0, 0
        for answer in _answers(target, PostMessagesRequest(posts=[_REUSED] * count)):
            reasons = [from_status(result.status).reason for result in answer.results]
            others += reasons != ["REQUEST_ID_REUSED"] * count
            batches += 1
        wrong = f"{others} batches were not refused with REQUEST_ID_REUSED" if others else ""
        return Outcome(did=f"{batches} batches of {count}", wrong=wrong)

    return run


def _edits(count: int) -> Callable[[Target], Outcome]:
    def run(target: Target) -> Outcome:
        prepare(
            target,
            threads([_THREAD]),
            agents({"editor": _SENDER}),
            posts([large(_THREAD, _LARGEST)], _SENDER),
        )
        edit = PostMessageRequest(thread=_THREAD, content="e", edit_of=1)
        batches, refused = 0, 0
        for answer in _answers(target, PostMessagesRequest(posts=[edit] * count), _SENDER):
            refused += sum(result.HasField("status") for result in answer.results)
            batches += 1
        wrong = f"{refused} edits were refused" if refused else ""
        return Outcome(did=f"{batches} batches of {count}", wrong=wrong)

    return run


def _at_once(method: str, request: bytes) -> Callable[[Target], Outcome]:
    def run(target: Target) -> Outcome:
        prepare(target, threads([_THREAD]), posts([large(_THREAD, _LARGEST, _ID)]))
        calls = call(method, request)
        target.ready()
        return Outcome(did=str(keep(target, lambda: calls, in_flight=300)))

    return run


def _recipients(target: Target) -> Outcome:
    """Check that a client with default options accepts the response to the batch."""
    tokens = {f"{'participant-':a<56}{number:03}": token(number) for number in range(100)}
    prepare(target, threads([_THREAD]), agents(tokens), joined(_THREAD, tokens.values()))
    post = PostMessageRequest(thread=_THREAD, content="x", include_recipients=True)
    batches, wrong = 0, ""
    try:
        for answer in _answers(target, PostMessagesRequest(posts=[post] * 1_000)):
            batches += 1
            posted = sum(result.HasField("response") for result in answer.results)
            if posted != 1_000 and not wrong:
                wrong = f"{posted} of 1,000 posts got their results"
    except grpc.RpcError as error:
        wrong = f"a batch failed with {error.code().name}: {error.details()}"
        with grpc.insecure_channel(target.address) as channel:
            page = BusServiceStub(channel).ListMessages(ListMessagesRequest(thread=_THREAD))
            wrong += f", {page.head_seq:,} posts are stored"
    return Outcome(did=f"{batches} batches", wrong=wrong)


ATTACKS = [
    *(
        Attack(
            name=f"reused-{count}",
            what=f"batches of {count:,} posts with the request_id of a message of 3 MiB",
            run=_reused(count),
        )
        for count in (300, 1_000)
    ),
    *(
        Attack(
            name=f"edits-{count}",
            what=f"batches of {count} edits of a message of 3 MiB",
            run=_edits(count),
        )
        for count in (100, 500)
    ),
    Attack(
        name="reused-at-once",
        what="300 concurrent single posts with the request_id of a message of 3 MiB",
        run=_at_once("PostMessage", _REUSED.SerializeToString()),
    ),
    Attack(
        name="joins-at-once",
        what="300 concurrent JoinThread calls whose context is a message of 3 MiB",
        run=_at_once(_JOIN, JoinThreadRequest(thread=_THREAD, context_limit=1).SerializeToString()),
    ),
    Attack(
        name="gets-at-once",
        what="300 concurrent GetMessage calls for a message of 3 MiB",
        run=_at_once("GetMessage", GetMessageRequest(thread=_THREAD, seq=1).SerializeToString()),
    ),
    Attack(
        name="recipients",
        what="batches of 1,000 posts with include_recipients, 100 participants with long names",
        run=_recipients,
    ),
]
