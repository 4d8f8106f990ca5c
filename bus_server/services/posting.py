"""Posts: one by one, or many through a stream."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from bus_server.auth import Caller
from bus_server.bus import Bus
from bus_server.errors import (
    AccessDenied,
    BusError,
    Draining,
    MessageTooLarge,
    OutcomeUnknown,
    ValidationFailed,
)
from bus_server.services import validation as valid
from bus_server.services.outlet import Outlet
from bus_server.settings import MAX_BATCH_POSTS, MAX_MESSAGE_BYTES, Settings
from bus_server.status import as_status, incident
from bus_server.store import Append, Appended
from threadbus.v1 import bus_service_pb2 as pb
from threadbus.v1.agent_pb2 import Presence
from threadbus.v1.message_pb2 import (
    MESSAGE_KIND_CHAT,
    MESSAGE_KIND_EDIT,
    PRIORITY_NORMAL,
    Message,
    Priority,
)

#: Batches of one stream that are taken in before the first is answered.
IN_FLIGHT = 4
#: Bytes of recipients, and of what goes with a refusal beside its reason, in one answer to a batch;
#: those beyond it are left out. The rest of a thousand results fits into the fourth MiB.
EXTRA_BYTES = 3 * 1024 * 1024

#: What became of the posts of a batch.
Answers: TypeAlias = Awaitable[Sequence[Appended | Exception]]


class Requests(Protocol):
    """The requests of a stream."""

    async def receive(self) -> pb.PostMessagesRequest | None:
        """The next one; None: there are no more."""

    def handled_last(self) -> Callable[[], None]:
        """What to call once the request received last is handled."""


def to_append(request: pb.PostMessageRequest, caller: Caller, settings: Settings) -> Append:
    """A post as the bus takes it. Raises BusError when a field is wrong.

    Fields that are not set, most of them in most posts, cost next to nothing.
    """
    if request.on_behalf_of and not caller.operator:
        raise AccessDenied("only an operator may post on_behalf_of another")
    content, most = request.content, settings.max_content_bytes
    message = Message(
        thread=valid.thread_name("thread", request.thread),
        sender=caller.name,
        sender_kind=caller.kind,
        kind=MESSAGE_KIND_CHAT,
        content=content,
        priority=PRIORITY_NORMAL,
    )
    # A character is four bytes at most: only of long texts need they be counted.
    if len(content) * 4 > most and (size := len(content.encode())) > most:
        raise MessageTooLarge("content", size=size, limit=most)
    if request.edit_of:
        if not content:
            raise ValidationFailed(("content", "required: an edit is a new content"))
        message.kind = MESSAGE_KIND_EDIT
        message.edit_of = valid.number("edit_of", request.edit_of)
    if request.attachments:
        message.attachments.extend(valid.attachments("attachments", request.attachments))
        message.DiscardUnknownFields()
    elif not content:
        raise ValidationFailed(("content", "required unless there is an attachment"))
    if request.request_id:
        message.request_id = valid.request_id("request_id", request.request_id)
    if request.reply_to:
        message.reply_to = valid.number("reply_to", request.reply_to)
    if request.mentions:
        message.mentions.extend(valid.mentions("mentions", request.mentions))
    if request.priority:
        priority = valid.enum("priority", request.priority, Priority)
        message.priority = Priority.ValueType(priority)
    if request.labels:
        message.labels.update(valid.labels("labels", request.labels))
    if request.handoff_to:
        message.handoff_to = valid.agent_name("handoff_to", request.handoff_to)
    if request.HasField("based_on_seq"):
        message.based_on_seq = valid.number("based_on_seq", request.based_on_seq)
    if request.on_behalf_of:
        message.sender = valid.own_agent_name("on_behalf_of", request.on_behalf_of)
        message.posted_by = caller.name
    size = message.ByteSize()
    if size > MAX_MESSAGE_BYTES:
        raise MessageTooLarge("", size=size, limit=MAX_MESSAGE_BYTES)
    expected = None
    if request.HasField("expected_last_seq"):
        expected = valid.number("expected_last_seq", request.expected_last_seq)
    epoch = request.epoch and valid.text("epoch", request.epoch, 32)
    return Append(message, expected, epoch, bool(request.on_behalf_of), size + 256)


def answer(response: pb.PostMessageResponse, thread: str, done: Appended) -> None:
    """Make it the answer to a post."""
    response.thread = thread
    response.seq = done.seq
    response.create_time.CopyFrom(done.create_time)
    response.last_seq = done.last_seq
    response.epoch = done.epoch
    if done.deduplicated:
        response.deduplicated = True


@dataclass(frozen=True, slots=True)
class _Batch:
    """A request of a stream, taken apart."""

    #: Each post, or why it is none.
    posts: Sequence[Append | BusError]
    #: Those of them whose recipients are asked for.
    curious: frozenset[int]
    #: How those stood who waited on the threads that somebody wants to know the recipients of.
    before: Mapping[str, Mapping[str, Presence.ValueType]]
    #: To be called when it is answered.
    handled: Callable[[], None]


class PostStream:
    """One PostMessages call: takes batches in while the ones before are being committed."""

    def __init__(self, bus: Bus, settings: Settings, caller: Caller, outlet: Outlet) -> None:
        self._bus = bus
        self._settings = settings
        self._caller = caller
        self._outlet = outlet
        #: How many more batches may be on their way.
        self._room = asyncio.Semaphore(IN_FLIGHT)
        #: In the order they came; None: no more.
        self._taken: asyncio.Queue[tuple[_Batch, Answers] | None] = asyncio.Queue()
        self._answers: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def run(self, requests: Requests) -> None:
        """Answer each batch. Raises what ends the stream once all that was taken is answered."""
        taking = asyncio.create_task(self._take_all(requests))
        answering = asyncio.create_task(self._answer_all())
        try:
            with self._bus.until_drained(taking):
                while (response := await self._answers.get()) is not None:
                    # However long it takes: what was posted must not be told to be refused.
                    await self._outlet.room(len(response), math.inf)
                    await self._outlet.send(response)
                    self._room.release()
            await answering
            await asyncio.wait([taking])
        finally:
            taking.cancel()
            answering.cancel()
        if taking.cancelled():
            raise Draining
        taking.result()

    async def _take_all(self, requests: Requests) -> None:
        try:
            while True:
                # First the room: a stream whose answers nobody reads takes in no more.
                await self._room.acquire()
                request = await requests.receive()
                if request is None:
                    return
                batch = self._batch(request, requests.handled_last())
                del request  # what waits for the disk is its posts
                accepted = [post for post in batch.posts if isinstance(post, Append)]
                answers = await self._bus.post_many(accepted)
                self._taken.put_nowait((batch, answers))
                del batch, accepted
        finally:
            self._taken.put_nowait(None)

    async def _answer_all(self) -> None:
        """Answer what was committed, whether or not the answers before are read.

        So that no more than the answers wait for a caller that does not read them.
        """
        try:
            while (taken := await self._taken.get()) is not None:
                self._answers.put_nowait(await self._answer(*taken))
                taken[0].handled()
                del taken
        finally:
            self._answers.put_nowait(None)

    def _batch(self, request: pb.PostMessagesRequest, handled: Callable[[], None]) -> _Batch:
        if not 1 <= len(request.posts) <= MAX_BATCH_POSTS:
            raise ValidationFailed(("posts", f"1–{MAX_BATCH_POSTS:,} posts"))
        posts = [self._post(post) for post in request.posts]
        curious = frozenset(at for at, post in enumerate(request.posts) if post.include_recipients)
        threads = {request.posts[at].thread for at in curious}
        before = {thread: self._bus.waiting_on(thread) for thread in threads}
        return _Batch(posts, curious, before, handled)

    def _post(self, request: pb.PostMessageRequest) -> Append | BusError:
        try:
            return to_append(request, self._caller, self._settings)
        except BusError as refusal:
            return refusal.without_traceback()

    async def _answer(self, batch: _Batch, coming: Answers) -> bytes:
        try:
            answers = iter(await coming)
        except OutcomeUnknown:
            raise  # the stream ends: its client repeats what has no answer
        except BusError as error:  # the whole batch met it
            answers = iter([error.without_traceback()] * len(batch.posts))
        except Exception as bug:  # noqa: BLE001 - as above
            answers = iter([incident("PostMessages", bug)] * len(batch.posts))
        response = pb.PostMessagesResponse()
        extras = 0
        for at, post in enumerate(batch.posts):
            done = next(answers) if isinstance(post, Append) else post
            result = response.results.add()
            if isinstance(done, OutcomeUnknown):
                raise done
            if isinstance(done, Exception):
                refusal = done if isinstance(done, BusError) else incident("PostMessages", done)
                result.status.CopyFrom(as_status(refusal))
                extras += sum(detail.ByteSize() for detail in result.status.details[1:])
                if extras > EXTRA_BYTES:
                    del result.status.details[1:]  # the first says why
            elif isinstance(post, Append):
                thread = post.message.thread
                answer(result.response, thread, done)
                if at in batch.curious and extras < EXTRA_BYTES:
                    found = await self._bus.recipients(post.message, batch.before[thread])
                    extras += sum(participant.ByteSize() for participant in found)
                    if extras <= EXTRA_BYTES:
                        result.response.recipients.extend(found)
        return response.SerializeToString()
