"""PostMessage through a real channel."""

from tests.serving import BusStub
from threadbus.v1.bus_service_pb2 import PostMessageRequest


async def test_posts_get_seqs_without_gaps(bus: BusStub, thread: str) -> None:
    answers = [
        await bus.PostMessage(PostMessageRequest(thread=thread, content=str(n))) for n in range(5)
    ]
    assert [answer.seq for answer in answers] == [1, 2, 3, 4, 5]
