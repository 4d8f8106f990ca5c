"""A thread that pages of a console show, read once for all of them.

As in the server, each page has a position of its own and is woken when there is more. Nothing
is queued for a page, so a slow one costs nothing, and any number may look at one thread.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from contextlib import aclosing
from dataclasses import dataclass
from itertools import islice
from typing import Any

import bus_client
from bus_client import Cursor, Message, ParticipantUpdate, ThreadHandle
from bus_client.cli.console.change import Change
from bus_client.cli.console.connection import Connection
from bus_client.cli.documents import document, message_document
from bus_client.cli.removed import is_removed

logger = logging.getLogger(__name__)

#: Bytes of a text that a page shows; the rest is loaded on request.
MAX_TEXT = 20_000
_PAGE = 200  # messages that are read or sent at once
_PAGE_BYTES = 256 * 1024  # JSON sent at once, or one message
_KEPT, _KEPT_BYTES = 2_000, 4 * 1024 * 1024  # messages in memory, and their sizes in all
_AGAIN = 1.0  # seconds between two attempts to read the thread


@dataclass(slots=True)
class _Recent:
    """A message in memory. Its JSON is made when the first page reads it."""

    message: Message
    size: int
    json: str = ""

    def text(self) -> str:
        if not self.json:
            self.json = as_json(self.message)
        return self.json


class ThreadFeed:
    """The newest messages of a thread, its settings, and who takes part.

    Attributes:
        change: Tells of each new message, and of changes of all that is said here.
        pages: How many pages show the thread.
        version: Counts the changes of the thread's settings and participants; 0 until it was read.
        history: Counts the histories that the thread was seen to have: an entry of one may not be
            that of another with the same seq. 0 until it was read.
        head: The seq of the newest entry.
        refused: Why the thread cannot be read, as JSON. None = it can.
    """

    def __init__(self, connection: Connection, name: str) -> None:
        self.change = Change()
        self.pages = 0
        self.version = self.history = self.head = 0
        self.refused: dict[str, str] | None = None
        self._connection = connection
        self._name = name
        self._thread: ThreadHandle | None = None  # None until the thread's history is known
        self._recent = deque[_Recent]()
        self._recent_bytes = 0
        self._info: dict[str, Any] = {}
        self._participants: dict[str, dict[str, Any]] = {}
        self._known = False  # whether the participants are those of this reading
        self._shown = (0, "")
        #: The event that was made last: of which epoch and history, after which seq and at which
        #: head; up to which seq; and its text.
        self._sent = (("", 0, 0, 0), 0, b"")
        self._task = asyncio.create_task(self._run())

    @property
    def epoch(self) -> str:
        """The epoch of the thread's history; "" while it is not known."""
        return "" if self._thread is None else self._thread.position.epoch

    async def after(self, seq: int) -> tuple[int, bytes] | None:
        """Returns the next messages after `seq` as an event: the seq of the last one, and its text.

        At most 200 messages, or 256 KiB of JSON; None if there is none. Pages that are woken
        together get the same bytes. Raises BusError.
        """
        if seq >= self.head:
            return None
        place = (self.epoch, self.history, seq, self.head)
        if self._sent[0] != place:
            messages = await self._next(seq)
            texts, size = list[str](), 0
            for each in messages:
                texts.append(each.text())
                size += len(texts[-1])
                if size > _PAGE_BYTES and len(texts) > 1:
                    texts.pop()
                    break
            if not texts:
                return None
            last = messages[len(texts) - 1].message.seq
            event = f"id: {place[0]}:{last}\nevent: messages\ndata: [{','.join(texts)}]\n\n"
            self._sent = (place, last, event.encode())
        return self._sent[1:]

    async def _next(self, seq: int) -> list[_Recent]:
        if self._recent and seq >= self._recent[0].message.seq - 1:
            first = seq + 1 - self._recent[0].message.seq
            return list(islice(self._recent, first, first + _PAGE))
        read = await self._connection.bus.thread(self._name).messages(
            after_seq=seq,
            before_seq=self.head + 1,
            limit=_PAGE,
            omit_attachment_data=True,
            max_content_bytes=MAX_TEXT,
            max_bytes=_PAGE_BYTES,
        )
        return [_Recent(each, 0) for each in read]

    async def has(self, seq: int) -> bool:
        """Returns whether the thread has an entry `seq`, or it is 0. Raises BusError."""
        if seq <= self.head:
            return True
        return seq <= (await self._connection.bus.get_thread(self._name)).head_seq

    def thread(self) -> str:
        """Returns the thread and its participants, as JSON."""
        if self._shown[0] != self.version:
            people = list(self._participants.values())
            shown = json.dumps({"thread": self._info, "participants": people})
            self._shown = (self.version, shown)
        return self._shown[1]

    def stop(self) -> asyncio.Task[None]:
        """Stop reading the thread. Returns the task that ends."""
        self._task.cancel()
        return self._task

    async def _run(self) -> None:
        await self._connection.ready.wait()
        while True:
            try:
                await self._read()
            except bus_client.CursorLost as lost:
                if not is_removed(lost):
                    self._thread = None
            except bus_client.Unavailable:
                pass
            except bus_client.BusError as error:
                self._refuse(error.message, error.reason, error.hint)
            except Exception:
                if self._refuse("The console failed: see its log.", "", ""):
                    logger.exception("cannot read thread %s", self._name)
            await asyncio.sleep(_AGAIN)

    def _refuse(self, message: str, reason: str, hint: str) -> bool:
        """Say why the thread cannot be read. Returns whether that is new."""
        why = {"message": message, "reason": reason, "hint": hint}
        if self.refused == why:
            return False
        self.refused = why
        self.change.tell()
        return True

    async def _read(self) -> None:
        """Read the thread, from its newest entry on, until that fails or the session was ended.

        Raises:
            CursorLost: The thread has a new history, or new messages were removed before they came.
            BusError: It cannot be read.
        """
        thread = self._connection.bus.thread(self._name)
        info = await thread.refresh()
        thread.position = Cursor(thread=info.name, after_seq=info.head_seq, epoch=info.epoch)
        self._known = False
        if info.epoch != self.epoch or info.head_seq < self.head:
            self.history += 1
        if info.epoch != self.epoch or info.head_seq != self.head:
            self._recent.clear()
            self._recent_bytes = 0
            self.head = info.head_seq
        self._thread = thread
        self.refused = None
        self._show(info)
        following = thread.follow(
            include_own=True,
            acknowledge=False,
            all_notices=True,
            until_closed=False,
            observe=self._connection.kind == "agent",
            include_participants=True,
            omit_attachment_data=True,
            max_content_bytes=MAX_TEXT,
        )
        async with aclosing(following) as items:
            async for item in items:
                if isinstance(item, ParticipantUpdate):
                    changed = False
                    self._update(item)
                else:
                    changed = item.kind == bus_client.MessageKind.MESSAGE_KIND_THREAD
                    self._keep(item)
                # A history that begins with all that was read goes on with another epoch.
                if changed or self.epoch != self._info["epoch"]:
                    self._show(await thread.refresh())

    def _keep(self, message: Message) -> None:
        if self._recent and message.seq != self.head + 1:  # the SDK left out what it does not know
            self._recent.clear()
            self._recent_bytes = 0
        recent = _Recent(message, message.ByteSize())
        self._recent.append(recent)
        self._recent_bytes += recent.size
        while len(self._recent) > _KEPT or self._recent_bytes > _KEPT_BYTES:
            self._recent_bytes -= self._recent.popleft().size
        self.head = message.seq
        self.change.tell()

    def _show(self, info: bus_client.Thread) -> None:
        self._info = document(info, whole=True)
        self.version += 1
        self.change.tell()

    def _update(self, update: ParticipantUpdate) -> None:
        if not self._known:  # the first update has all of them
            self._participants.clear()
            self._known = True
        for participant in update.participants:
            self._participants[participant.agent] = document(participant, whole=True)
        for name in update.left:
            self._participants.pop(name, None)
        self.version += 1
        self.change.tell()


def as_json(message: Message) -> str:
    """Returns a message as JSON in one line."""
    return json.dumps(message_document(message))
