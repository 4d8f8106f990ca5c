"""Real conversations through the bus, if a file of them is available."""

import asyncio
import json
import os
from collections import defaultdict
from pathlib import Path

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from tests.serving import BusStub, ServerProcess, ThreadStub
from threadbus.v1.bus_service_pb2 import PostMessageRequest, WaitMessagesRequest
from threadbus.v1.bus_service_pb2_grpc import BusServiceStub
from threadbus.v1.message_pb2 import Cursor
from threadbus.v1.thread_service_pb2 import JoinThreadRequest

FILE = Path(
    os.environ.get("THREADBUS_CONVERSATIONS")
    or Path(__file__).parents[2] / "shared/data/agent-conversations.jsonl"
)


@pytest.mark.slow
@pytest.mark.skipif(not FILE.exists(), reason="no recorded conversations (THREADBUS_CONVERSATIONS)")
async def test_conversations_are_read_back_as_they_were_posted(
    server: ServerProcess, threads: ThreadStub, channel: grpc.aio.Channel
) -> None:
    said: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for line in FILE.read_text("utf-8").splitlines():
        entry = json.loads(line)
        said[entry["thread"]].append((entry["sender"], entry["content"]))
    token = server.db.with_name(f"{server.db.name}.operator-token").read_text("utf-8").strip()
    operator = (("authorization", f"Bearer {token}"),)
    bus: BusStub = BusServiceStub(channel)

    async def hold(thread: str) -> None:
        await threads.JoinThread(JoinThreadRequest(thread=thread, create=True))
        for sender, content in said[thread]:
            request = PostMessageRequest(thread=thread, content=content, on_behalf_of=sender)
            await bus.PostMessage(request, metadata=operator)

    await asyncio.gather(*(hold(thread) for thread in said))
    request = WaitMessagesRequest(
        threads=[Cursor(thread=thread) for thread in said], max_wait=Duration()
    )
    heard: dict[str, list[tuple[str, str]]] = defaultdict(list)
    async for frame in bus.WaitMessages(request):
        for message in frame.messages.messages:
            heard[message.thread].append((message.sender, message.content))
            assert message.posted_by == "operator"
    assert heard == said
