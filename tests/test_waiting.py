"""WaitMessages through a real channel."""

from google.protobuf.duration_pb2 import Duration

from tests.serving import BusStub
from threadbus.v1.bus_service_pb2 import PostMessageRequest, WaitEnding, WaitMessagesRequest
from threadbus.v1.message_pb2 import Cursor


async def test_a_finite_wait_reads_what_is_there_and_ends_ok(bus: BusStub, thread: str) -> None:
    for n in range(3):
        await bus.PostMessage(PostMessageRequest(thread=thread, content=str(n)))
    request = WaitMessagesRequest(threads=[Cursor(thread=thread)], max_wait=Duration())
    frames = [frame async for frame in bus.WaitMessages(request)]
    kinds = [frame.WhichOneof("frame") for frame in frames]
    assert kinds == ["started", "messages", "caught_up", "ending"]
    assert [message.content for message in frames[1].messages.messages] == ["0", "1", "2"]
    assert frames[-1].ending.reason == WaitEnding.REASON_MAX_WAIT
