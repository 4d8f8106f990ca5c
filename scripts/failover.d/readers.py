"""Readers of a thread, and what the log is according to each of them."""

import contextlib

import grpc

from bus_client import CursorLost, Message, ThreadHandle
from tests.serving import BusStub
from threadbus.v1.bus_service_pb2 import WaitMessagesRequest
from threadbus.v1.message_pb2 import Cursor


class Reader:
    """What a reader of a thread was given."""

    def __init__(self, name: str, thread: str) -> None:
        self.name, self.thread = name, thread
        #: The messages of the thread from the first one on, without those that a resync took back.
        self.messages: list[Message] = []
        #: Resyncs that took something back: the last seq before, and the one after which reading
        #: continued.
        self.resyncs: list[tuple[int, int]] = []
        #: The first message that was not the next one.
        self.fault = ""

    def take(self, message: Message) -> None:
        """Record the next message."""
        if message.seq != len(self.messages) + 1 and not self.fault:
            self.fault = f"seq {message.seq} came after seq {len(self.messages)}"
        self.messages.append(message)

    def go_back(self, before: int, after: int) -> None:
        """Record a resync."""
        self.resyncs.append((before, after))
        del self.messages[after:]


class Follower(Reader):
    """An agent that follows a thread through the SDK."""

    def __init__(self, name: str, handle: ThreadHandle) -> None:
        super().__init__(name, handle.name)
        self._handle = handle

    async def run(self) -> None:
        """Follow until cancelled; may be run again. Raises BusError if that fails."""
        while True:
            try:
                async with contextlib.aclosing(self._handle.follow(include_own=True)) as messages:
                    async for message in messages:
                        self.take(message)
            except CursorLost as lost:
                self.go_back(lost.requested.after_seq, lost.position.after_seq)


class OpenWait(Reader):
    """One WaitMessages call. It is not repeated."""

    def __init__(self, name: str, thread: str, bus: BusStub) -> None:
        super().__init__(name, thread)
        self._bus = bus
        #: Resyncs that took nothing back: the thread only got a new epoch.
        self.renewals = 0
        #: How the call ended; empty while it is open.
        self.ended = ""

    async def run(self) -> None:
        """Read until the call ends."""
        request = WaitMessagesRequest(threads=[Cursor(thread=self.thread)])
        try:
            async for frame in self._bus.WaitMessages(request):
                for message in frame.messages.messages:
                    self.take(message)
                if frame.HasField("resync"):
                    before = frame.resync.requested.after_seq
                    after = frame.resync.position.cursor.after_seq
                    if before == after:
                        self.renewals += 1
                    else:
                        self.go_back(before, after)
            self.ended = "it ended"
        except grpc.aio.AioRpcError as error:
            self.ended = f"{error.code().name}: {error.details()}"
