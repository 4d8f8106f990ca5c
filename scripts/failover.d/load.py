"""Agents that post to a few threads through all servers, and others that read them."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Coroutine, Sequence
from pathlib import Path
from typing import Any

import grpc
from checker import Acknowledgement
from readers import Follower, OpenWait, Reader
from waiting import until

from bus_client import BusClient, OutcomeUnknown, ThreadHandle, Unavailable
from tests.connections import Connection, connected
from tests.ledger import history
from tests.serving import ServerProcess
from threadbus.v1.bus_service_pb2 import PostMessageRequest, PostMessageResponse
from threadbus.v1.message_pb2 import Message

POSTERS = 32
#: The threads that the posters post to, and one that gets a post at the beginning and at the end.
BUSY, QUIET = ("red", "green", "blue"), "quiet"
THREADS = (*BUSY, QUIET)
#: Of the posts with plain stubs, every so many are sent through all servers at once.
TWICE = 10
#: Seconds in which a call of a poster is answered; the post is then repeated.
_TIMEOUT = 60.0
#: The answers after which a post with a request_id is repeated; a server that stops gives either.
_REPEATED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
#: A server that is back is called again soon.
_OPTIONS = (("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 500))


class Load:
    """Posters and readers. `running` starts it.

    Half of the posters use the SDK, and half plain stubs. Each repeats a post with its request_id
    until it is acknowledged.
    """

    def __init__(self, servers: Sequence[ServerProcess], home: Path) -> None:
        self._servers, self._home = servers, home
        self._tasks: asyncio.TaskGroup
        self._connections: list[Connection] = []
        self._handles: list[dict[str, ThreadHandle]] = []
        self._numbers = itertools.count(1)
        self._posting: list[asyncio.Task[None]] = []
        self._stopping = False
        self._absent_tasks: list[asyncio.Task[None]] = []
        #: Followers that may `leave` for a while.
        self.absent: list[Follower] = []
        self.followers: list[Follower] = []
        self.waits: list[OpenWait] = []
        self.acknowledgements: list[Acknowledgement] = []
        #: How many posts were acknowledged by each server; one that was sent through all counts
        #: for the first.
        self.posts = [0] * len(servers)
        #: Calls that failed, and were repeated.
        self.retries = 0
        #: The longest time from the first call of a post until it was acknowledged, in seconds.
        self.longest = 0.0

    @property
    def readers(self) -> list[Reader]:
        """All readers but the waits that have ended."""
        return [*self.followers, *self.absent, *(each for each in self.waits if not each.ended)]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Post and read until the end of the block. Raises what a poster or a follower does."""
        async with contextlib.AsyncExitStack() as opened:
            await self._connect(opened)
            async with asyncio.TaskGroup() as self._tasks:
                reading = [self._start(follower.run()) for follower in self.followers]
                reading += [self._start(wait.run()) for wait in self.waits]
                self.come_back()
                await self.post(0, QUIET)
                self.start_posting()
                yield
                for task in [*reading, *self._absent_tasks, *self._posting]:
                    task.cancel()

    async def _connect(self, opened: contextlib.AsyncExitStack) -> None:
        for number, server in enumerate(self._servers):
            connection = await opened.enter_async_context(
                connected(server.address, *THREADS, options=_OPTIONS)
            )
            self._connections.append(connection)
            self._handles.append(await self._joined(opened, server, f"poster-{number}"))
            following = await self._joined(opened, server, f"reader-{number}")
            self.followers += [Follower(f"reader-{number}", each) for each in following.values()]
            self.waits += [OpenWait(f"wait-{number}", name, connection.bus) for name in THREADS]
        absent = await self._joined(opened, self._servers[0], "absent")
        self.absent = [Follower("absent", absent[name]) for name in BUSY]

    async def _joined(
        self, opened: contextlib.AsyncExitStack, server: ServerProcess, agent: str
    ) -> dict[str, ThreadHandle]:
        client = BusClient(
            server.address, agent=agent, credentials=self._home / f"credentials-{agent}.json"
        )
        bus = await opened.enter_async_context(client)
        return {name: await bus.join(name, start="first") for name in THREADS}

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return self._tasks.create_task(work)

    # ── Posting ─────────────────────────────────────────────────────────────────────────────────

    def start_posting(self) -> None:
        """Let all posters post, until `stop_posting`."""
        self._stopping = False
        self._posting = [self._start(self._post_on(number)) for number in range(POSTERS)]

    async def stop_posting(self) -> None:
        """Stop, and wait until all posts are acknowledged."""
        self._stopping = True
        await until(
            "the last posts to be acknowledged", lambda: all(task.done() for task in self._posting)
        )

    async def more(self, count: int) -> None:
        """Wait until so many more posts are acknowledged."""
        await self.reach(sum(self.posts) + count)

    async def reach(self, count: int) -> None:
        """Wait until so many posts are acknowledged in all."""
        await until(f"{count} posts", lambda: sum(self.posts) >= count)

    async def more_through(self, server: int, count: int) -> None:
        """As `more`, but posts through one of the servers."""
        enough = self.posts[server] + count
        await until(f"{count} more posts through a server", lambda: self.posts[server] >= enough)

    async def post(self, server: int, thread: str, *, sdk: bool = True) -> None:
        """Post, and wait until it is acknowledged."""
        number, loop = next(self._numbers), asyncio.get_running_loop()
        content, began = f"post {number}", loop.time()
        if sdk:
            found = [await self._post_by_sdk(self._handles[server][thread], content)]
        else:
            others = range(len(self._servers)) if number % TWICE == 0 else [server]
            found = await asyncio.gather(*(self._post_by_stub(n, thread, content) for n in others))
        self.acknowledgements += [
            Acknowledgement(thread, content, each.epoch, each.seq) for each in found
        ]
        self.posts[server] += 1
        self.longest = max(self.longest, loop.time() - began)

    async def _post_on(self, number: int) -> None:
        server, sdk = number % len(self._servers), number % 4 < 2
        while not self._stopping:
            await self.post(server, BUSY[number % len(BUSY)], sdk=sdk)

    async def _post_by_sdk(self, handle: ThreadHandle, content: str) -> PostMessageResponse:
        while True:
            try:
                return await handle.post(content, request_id=content, timeout=_TIMEOUT)
            except (OutcomeUnknown, Unavailable):
                self.retries += 1

    async def _post_by_stub(self, server: int, thread: str, content: str) -> PostMessageResponse:
        request = PostMessageRequest(thread=thread, content=content, request_id=content)
        while True:
            try:
                return await self._connections[server].bus.PostMessage(request, timeout=_TIMEOUT)
            except grpc.aio.AioRpcError as error:
                if error.code() not in _REPEATED:
                    raise
                self.retries += 1
                await asyncio.sleep(0.05)

    # ── Reading ─────────────────────────────────────────────────────────────────────────────────

    async def leave(self) -> None:
        """Let some followers stop reading, one on each busy thread."""
        for task in self._absent_tasks:
            task.cancel()
        await asyncio.wait(self._absent_tasks)

    def come_back(self) -> None:
        """Let them continue where they were."""
        self._absent_tasks = [self._start(follower.run()) for follower in self.absent]

    async def read_everywhere(self) -> None:
        """Wait until every reader has read the last message of its thread, where it is."""
        ends = {name: (len(found), found[-1:]) for name, found in (await self.stored(0)).items()}
        await until(
            "the readers to catch up",
            lambda: all(
                (len(each.messages), each.messages[-1:]) == ends[each.thread]
                for each in self.readers
            ),
        )

    async def stored(self, server: int) -> dict[str, list[Message]]:
        """Returns the messages of each thread, as one of the servers lists them."""
        return {name: await history(self._connections[server].bus, name) for name in THREADS}
