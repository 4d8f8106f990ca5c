"""The read position of a thread handle, when two threads of a program move it."""

import asyncio
from typing import Any

from bus_client.heartbeats import Heartbeats
from bus_client.read_position import ReadPosition
from bus_client.reader import Reader
from threadbus.v1.bus_service_pb2 import HeartbeatRequest, HeartbeatResponse, MessageBatch
from threadbus.v1.message_pb2 import MESSAGE_KIND_CHAT, Cursor, Message
from threadbus.v1.thread_service_pb2 import JoinThreadResponse


class Calls:
    """Records the seq of each thread that heartbeats report."""

    agent = "ann"

    class bus:
        Heartbeat = None

    def __init__(self) -> None:
        self.reported: list[dict[str, int]] = []

    async def call(self, _: None, request: HeartbeatRequest, **options: Any) -> HeartbeatResponse:
        self.reported.append({each.thread: each.after_seq for each in request.read_cursors})
        return HeartbeatResponse()


class Interrupted(Heartbeats):
    """Heartbeats whose first report of a read message is interrupted by an acknowledge()."""

    reader: Reader | None = None

    def report_read(self, thread: str, position: ReadPosition) -> None:
        reader, self.reader = self.reader, None
        if reader is not None:  # as a signal handler that calls the blocking client would
            acknowledging = reader.acknowledge(9)
            asyncio.run_coroutine_threadsafe(acknowledging, self._loop).result(20)
        super().report_read(thread, position)


async def test_a_message_is_marked_as_read_while_a_later_one_is_acknowledged() -> None:
    calls: Any = Calls()
    heartbeats = Interrupted(calls, anonymous=False, automatic=False)
    joined = JoinThreadResponse(cursor=Cursor(thread="t", epoch="e"))
    reader = heartbeats.reader = Reader("t", calls, heartbeats, joined)
    messages = [Message(seq=seq, kind=MESSAGE_KIND_CHAT) for seq in (1, 2)]
    sent = MessageBatch(messages=messages, cursor=Cursor(epoch="e"))
    batch = reader._batch(sent, include_own=True, report=True)
    await asyncio.to_thread(list, batch)
    assert reader.position.after_seq == 9
    await heartbeats.close()
    assert {"t": 9} in calls.reported
    reader._mark_read(ReadPosition.at("e", 10))
    assert reader.position.after_seq == 10


async def test_a_report_does_not_replace_a_later_one_that_is_not_sent() -> None:
    calls: Any = Calls()
    heartbeats = Heartbeats(calls, anonymous=False, automatic=False)
    heartbeats.report("t", ReadPosition.at("e", 9))
    heartbeats.report_read("t", ReadPosition.at("e", 1))
    await heartbeats.flush()
    assert calls.reported == [{"t": 9}]
    heartbeats.report_read("t", ReadPosition.at("e", 11))
    heartbeats.report("t", ReadPosition.at("e", 10))
    await heartbeats.flush()
    heartbeats.report("t", ReadPosition.at("new", 1))
    await heartbeats.flush()
    assert calls.reported[1:] == [{"t": 11}, {"t": 1}]
    await heartbeats.close()
