"""What posters were told, held against what is stored."""

from collections import Counter
from collections.abc import Awaitable, Sequence

import grpc

from tests.refusals import Refusal, refused
from tests.serving import BusStub
from threadbus.v1.bus_service_pb2 import (
    ListMessagesRequest,
    PostMessageRequest,
    PostMessageResponse,
)
from threadbus.v1.message_pb2 import Message


async def history(bus: BusStub, thread: str) -> list[Message]:
    """All of a thread, read page by page."""
    found: list[Message] = []
    request = ListMessagesRequest(thread=thread, limit=1_000)
    while True:
        page = await bus.ListMessages(request)
        found += page.messages
        if not page.has_more:
            return found
        request.after_seq = page.next_after_seq


async def outcome(call: Awaitable[PostMessageResponse]) -> PostMessageResponse | Refusal:
    """What became of a post, where both ways are fine."""
    try:
        return await call
    except grpc.aio.AioRpcError:
        return await refused(call)


class Ledger:
    """Posts that were acknowledged. Each content is posted once, under a request_id or not."""

    def __init__(self) -> None:
        self._acked: dict[tuple[str, str], int] = {}

    def __len__(self) -> int:
        return len(self._acked)

    def ack(self, thread: str, content: str, answer: PostMessageResponse) -> None:
        """A poster was told where its post is; told again, it must be the same place."""
        assert self._acked.setdefault((thread, content), answer.seq) == answer.seq

    async def post(self, bus: BusStub, thread: str, content: str) -> None:
        """Post, and note the answer."""
        answer = await bus.PostMessage(PostMessageRequest(thread=thread, content=content))
        self.ack(thread, content, answer)

    async def attempt(self, bus: BusStub, thread: str, content: str) -> Refusal | None:
        """Post, and note the answer; if it is refused, why."""
        request = PostMessageRequest(thread=thread, content=content)
        answer = await outcome(bus.PostMessage(request))
        if isinstance(answer, Refusal):
            return answer
        self.ack(thread, content, answer)
        return None

    def check(self, thread: str, stored: Sequence[Message], *, unknown: bool = False) -> None:
        """Hold a thread's messages against the acknowledgements.

        All that was acknowledged is there, where it was said to be, once, and no seq is left out.
        Nothing else is there, unless the outcome of some posts is `unknown`.
        """
        assert [message.seq for message in stored] == list(range(1, len(stored) + 1))
        assert [text for text, n in Counter(m.content for m in stored).items() if n > 1] == []
        places = {message.content: message.seq for message in stored}
        acked = {content: seq for (name, content), seq in self._acked.items() if name == thread}
        if unknown:
            places = {content: seq for content, seq in places.items() if content in acked}
        assert places == acked
