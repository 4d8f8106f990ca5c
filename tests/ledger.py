"""Records acknowledged posts, and checks them against what is stored."""

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
    """Returns all messages of a thread, read page by page."""
    found: list[Message] = []
    request = ListMessagesRequest(thread=thread, limit=1_000)
    while True:
        page = await bus.ListMessages(request)
        found += page.messages
        if not page.has_more:
            return found
        request.after_seq = page.next_after_seq


async def outcome(call: Awaitable[PostMessageResponse]) -> PostMessageResponse | Refusal:
    """Await a post that may succeed or fail; returns its refusal, if any."""
    try:
        return await call
    except grpc.aio.AioRpcError:
        return await refused(call)


class Ledger:
    """Acknowledged posts. Each content is posted once, with a request_id or without."""

    def __init__(self) -> None:
        self._acked: dict[tuple[str, str], int] = {}

    def __len__(self) -> int:
        return len(self._acked)

    def seqs(self, thread: str) -> dict[str, int]:
        """Returns the seqs of a thread's posts, by content."""
        return {content: seq for (name, content), seq in self._acked.items() if name == thread}

    def ack(self, thread: str, content: str, answer: PostMessageResponse) -> None:
        """Record an acknowledgement; a second one for the same content must have the same seq."""
        assert self._acked.setdefault((thread, content), answer.seq) == answer.seq

    async def post(self, bus: BusStub, thread: str, content: str) -> None:
        """Post, and record the acknowledgement."""
        answer = await bus.PostMessage(PostMessageRequest(thread=thread, content=content))
        self.ack(thread, content, answer)

    async def attempt(self, bus: BusStub, thread: str, content: str) -> Refusal | None:
        """Post, and record the acknowledgement; returns the refusal if there is one."""
        request = PostMessageRequest(thread=thread, content=content)
        answer = await outcome(bus.PostMessage(request))
        if isinstance(answer, Refusal):
            return answer
        self.ack(thread, content, answer)
        return None

    def check(self, thread: str, stored: Sequence[Message], *, unknown: bool = False) -> None:
        """Check a thread's messages against the acknowledgements.

        Every acknowledged post must be there once, at its seq, and no seq may be missing. Nothing
        else may be there, unless the outcome of some posts is `unknown`.
        """
        assert [message.seq for message in stored] == list(range(1, len(stored) + 1))
        assert [text for text, n in Counter(m.content for m in stored).items() if n > 1] == []
        places = {message.content: message.seq for message in stored}
        acked = {content: seq for (name, content), seq in self._acked.items() if name == thread}
        if unknown:
            places = {content: seq for content, seq in places.items() if content in acked}
        assert places == acked
