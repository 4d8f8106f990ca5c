"""The feeds of one console, and the stream of events of each page."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress

import bus_client
from bus_client.cli.console.connection import Connection
from bus_client.cli.console.feed import ThreadFeed
from bus_client.cli.console.overview import Overview

_LINGER = 10.0  # seconds for which a thread is followed after its last page has gone
_COMMENT = 15.0  # seconds without an event after which a comment is sent
_PAUSE = 0.05  # seconds between two sends to a page: it draws all of one at once
_MOST_BEHIND = 10_000  # messages: a page that is further behind starts again at the head


class Hub:
    """What all pages of a console share.

    Attributes:
        overview: What they show beside their thread.
    """

    def __init__(self, connection: Connection) -> None:
        self.overview = Overview(connection)
        self._connection = connection
        self._feeds: dict[str, ThreadFeed] = {}
        self._streams = set[asyncio.Event]()
        self._closed = False

    async def close(self) -> None:
        """End all streams of events, and stop reading threads."""
        self._closed = True
        for stream in self._streams:
            stream.set()
        if stopped := [feed.stop() for feed in self._feeds.values()]:
            await asyncio.wait(stopped)

    async def events(
        self, thread: str | None, epoch: str, seq: int, until: float
    ) -> AsyncGenerator[str | bytes]:
        """Yields the events of a page, in the format of EventSource.

        They are `overview` and `changes` (see Overview.after), `thread` and `messages` (see
        ThreadFeed), and `refused`: why the thread cannot be read, for now. Two are the last one:
        `resync`, if the page has to load the thread again, and `logged_out`. A comment comes at
        least every 15 s.

        Args:
            thread: The thread that the page shows. None = only the overview.
            epoch: Of `seq`. "" = messages from the thread's newest entry on.
            seq: The last entry that the page has.
            until: When the browser has to log in again, in seconds since 1970.
        """
        woken = asyncio.Event()
        with ExitStack() as watching:
            self._streams.add(woken)
            watching.callback(self._streams.discard, woken)
            watching.enter_context(self.overview.wanted())
            watching.enter_context(self.overview.change.watched(woken))
            yield "retry: 1000\n\n"
            if thread is None:
                async for text in self._stream(woken, None, epoch, seq, until):
                    yield text
                return
            async with self._feed(thread) as feed:
                watching.enter_context(feed.change.watched(woken))
                async for text in self._stream(woken, feed, epoch, seq, until):
                    yield text

    @asynccontextmanager
    async def _feed(self, thread: str) -> AsyncIterator[ThreadFeed]:
        """Yields the feed of a thread, which goes on for a while after the block."""
        feed = self._feeds.get(thread)
        if feed is None:
            feed = self._feeds[thread] = ThreadFeed(self._connection, thread)
        feed.pages += 1
        try:
            yield feed
        finally:
            feed.pages -= 1
            asyncio.get_running_loop().call_later(_LINGER, self._drop, thread, feed)

    def _drop(self, thread: str, feed: ThreadFeed) -> None:
        if not feed.pages and self._feeds.get(thread) is feed:
            del self._feeds[thread]
            feed.stop()

    async def _stream(
        self, woken: asyncio.Event, feed: ThreadFeed | None, epoch: str, seq: int, until: float
    ) -> AsyncGenerator[str | bytes]:
        overview = version = 0
        refused: dict[str, str] | None = None
        history = 0  # in which the position is; 0: not known
        while not self._closed:
            left = until - time.time()
            if left <= 0:
                yield event("logged_out", "{}")
                return
            woken.clear()
            sent = False
            if self.overview.known and overview != self.overview.version:
                text = event(*self.overview.after(overview))
                overview, sent = self.overview.version, True
                yield text
            if feed is not None and refused != feed.refused:
                refused, sent = feed.refused, True
                if refused is not None:
                    yield event("refused", json.dumps(refused))
            if feed is not None and feed.epoch and feed.refused is None:
                if not epoch:
                    epoch, seq = feed.epoch, feed.head
                with suppress(bus_client.BusError):  # the feed says what is wrong
                    current = feed.epoch, feed.history
                    if not history and feed.epoch == epoch and await feed.has(seq):
                        history = feed.history
                    if current != (epoch, history) or seq < feed.head - _MOST_BEHIND:
                        yield event("resync", json.dumps({"epoch": feed.epoch, "head": feed.head}))
                        return
                    if version != feed.version:
                        version, sent = feed.version, True
                        yield event("thread", feed.thread())
                    if found := await feed.after(seq):
                        seq, messages = found
                        sent = True
                        yield messages
            if sent:
                await asyncio.sleep(_PAUSE)
                continue
            try:
                async with asyncio.timeout(min(_COMMENT, left)):
                    await woken.wait()
            except TimeoutError:
                yield ": \n\n"


def event(name: str, data: str) -> str:
    """Returns a server-sent event. `data`: JSON in one line."""
    return f"event: {name}\ndata: {data}\n\n"
