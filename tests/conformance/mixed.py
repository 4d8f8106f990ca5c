"""Agents in all languages in one thread, whose server is killed in the middle."""

import asyncio
import contextlib
import uuid
from collections.abc import Sequence
from typing import Any

from tests.conformance.contract import plain, request_json
from tests.conformance.driver import Command, Driver, driver
from tests.conformance.stage import OwnCalls, own_server
from threadbus.v1.bus_service_pb2 import PostMessageRequest, PostMessageResponse
from threadbus.v1.message_pb2 import Cursor, Message

#: The case's name and title.
MIXED = "mixed"
MIXED_TITLE = (
    "All languages in one thread, while their server is killed: each gets every message once, in "
    "order"
)
THREAD = "mixed"
#: Posts of each agent.
POSTS = 120


class Agent:
    """An agent in some language: it posts, and follows the thread."""

    def __init__(self, language: str, running: Driver) -> None:
        self.language = language
        self._driver = running
        self._following: Command | None = None
        #: The seq of each acknowledged post, by its content.
        self.answered: dict[str, int] = {}

    async def enter(self, address: str) -> None:
        """Register, join and follow."""
        await self._driver.ask("open", address=address)
        token = uuid.uuid4().hex * 2
        await self._driver.ask("register", agent=self.language, token=token)
        await self._driver.ask("join", thread=THREAD, start="JOIN_START_FIRST")
        cursor = request_json(Cursor, {"thread": THREAD})
        self._following = await self._driver.give("follow", cursor=cursor, own=True)

    async def post(self, half: asyncio.Semaphore) -> None:
        """Post one message after the other; release `half` in the middle."""
        for number in range(1, POSTS + 1):
            content = f"{self.language} {number}"
            request = request_json(PostMessageRequest, {"thread": THREAD, "content": content})
            answer = await self._driver.ask("post", request=request, timeout=60)
            self.answered[content] = int(plain(PostMessageResponse, answer)["seq"])
            if number == POSTS // 2:
                half.release()

    async def seen(self, count: int) -> list[tuple[int, str, str]]:
        """Return the next messages of its follow: seq, sender and content."""
        assert self._following is not None
        found = []
        for _ in range(count):
            line = await self._following.next()
            assert "message" in line, f"{self.language}'s follow ended: {line}"
            found.append(_told(plain(Message, line["message"])))
        await self._driver.ask("cancel", target=self._following.number)
        assert "ok" in await self._following.next(), f"{self.language} saw more than there is"
        return found


def _told(message: dict[str, Any]) -> tuple[int, str, str]:
    return int(message["seq"]), message["sender"], message["content"]


async def mix(languages: Sequence[str]) -> int:
    """Run it, and return how many messages each received. AssertionError if any got lost,
    repeated or out of order.
    """
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(own_server())
        agents = [
            Agent(language, await stack.enter_async_context(driver(language)))
            for language in languages
        ]
        await asyncio.gather(*(agent.enter(server.address) for agent in agents))
        half = asyncio.Semaphore(0)
        posting = [asyncio.create_task(agent.post(half)) for agent in agents]
        for _ in range(len(agents) // 2):  # half of the agents are half done
            await half.acquire()
        assert not any(task.done() for task in posting), "the kill comes too late"
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        await asyncio.gather(*posting)
        total = POSTS * len(agents)
        seen = await asyncio.gather(*(agent.seen(total) for agent in agents))
        bus = await stack.enter_async_context(OwnCalls(server.address))
        stored = [_told(message) for message in await bus.history(THREAD)]
    assert [seq for seq, _, _ in stored] == list(range(1, total + 1)), "lost, or stored twice"
    for agent, found in zip(agents, seen, strict=True):
        assert found == stored, f"{agent.language} did not see what is stored"
        own = [(content, seq) for seq, sender, content in stored if sender == agent.language]
        assert own == list(agent.answered.items()), f"{agent.language}'s posts are not as answered"
    return total
