"""The read position of a thread handle, when two threads of a program move it."""

import threading
from typing import Any

from bus_client.reader import Reader
from threadbus.v1.bus_service_pb2 import MessageBatch
from threadbus.v1.message_pb2 import MESSAGE_KIND_CHAT, Cursor, Message


class Heartbeats:
    """Records reports, and interrupts the first one until another is made, or for a moment."""

    def __init__(self) -> None:
        self.reports: list[int] = []
        self.interrupted, self.another = threading.Event(), threading.Event()

    def report(self, thread: str, epoch: str, seq: int) -> None:
        if self.interrupted.is_set():
            self.another.set()
        else:
            self.interrupted.set()
            self.another.wait(0.1)
        self.reports.append(seq)

    def resume(self) -> None:
        pass

    async def flush(self) -> None:
        pass


async def test_the_last_report_is_the_position_whichever_thread_moved_it() -> None:
    heartbeats: Any = Heartbeats()
    calls: Any = None
    reader = Reader("t", calls, heartbeats, Cursor(thread="t", epoch="e"))
    messages = [Message(seq=seq, kind=MESSAGE_KIND_CHAT) for seq in (1, 2)]
    batch = reader._batch(MessageBatch(messages=messages, cursor=Cursor(epoch="e")), report=True)
    reading = threading.Thread(target=list, args=[batch])
    reading.start()
    assert heartbeats.interrupted.wait(20)
    await reader.acknowledge(9)
    reading.join(20)
    assert (reader.position.after_seq, heartbeats.reports[-1]) == (9, 9)
