"""Large requests that are refused, one after the other, and must leave nothing in memory."""

import asyncio
from collections.abc import Callable, Iterator

import grpc.aio
from prepare import prepare, threads
from target import Attack, Outcome, Target

from bus_client.status import from_rpc_error
from threadbus.v1.bus_service_pb2 import PostMessageRequest
from threadbus.v1.bus_service_pb2_grpc import BusServiceStub
from threadbus.v1.message_pb2 import Attachment

_THREAD = "refused"


def _one_by_one(
    requests: Callable[[], Iterator[PostMessageRequest]], reason: str
) -> Callable[[Target], Outcome]:
    async def attack(target: Target) -> Outcome:
        count, wrong = 0, ""
        async with grpc.aio.insecure_channel(target.address) as channel:
            stub = BusServiceStub(channel)
            target.ready()
            for request in requests():
                if target.left() < 0:
                    break
                count += 1
                try:
                    await stub.PostMessage(request, timeout=20)
                except grpc.aio.AioRpcError as error:
                    refusal = from_rpc_error(error)
                    if refusal.reason != reason:
                        wrong = f"a post was refused with {refusal.reason or refusal.code}"
                else:
                    wrong = "a post was accepted"
        return Outcome(did=f"{count} posts", wrong=wrong)

    def run(target: Target) -> Outcome:
        prepare(target, threads([_THREAD]))
        return asyncio.run(attack(target))

    return run


def _urls() -> Iterator[PostMessageRequest]:
    """Yields different URLs, so that a cache of parsed URLs would keep them all."""
    for number in range(384):
        url = f"http://h{number}/" + "x" * 3_800_000
        yield PostMessageRequest(thread=_THREAD, attachments=[Attachment(filename="f", url=url)])


def _too_large() -> Iterator[PostMessageRequest]:
    request = PostMessageRequest(thread=_THREAD, content="x" * 4_100_000)
    for _ in range(500):
        yield request


ATTACKS = [
    Attack(
        name="long-urls",
        what="384 posts with URLs of 3.8 MB, one after the other",
        run=_one_by_one(_urls, "VALIDATION_FAILED"),
    ),
    Attack(
        name="too-large",
        what="500 posts of 4.1 MB, one after the other",
        run=_one_by_one(_too_large, "MESSAGE_TOO_LARGE"),
    ),
]
