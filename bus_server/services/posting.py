"""Posts: validation, and the stream of batches of PostMessages."""

import asyncio
import functools
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from bus_server.auth import Caller
from bus_server.bus import Bus
from bus_server.errors import (
    AccessDenied,
    BusError,
    ContentBlocked,
    MessageTooLarge,
    OutcomeUnknown,
    ThreadNotFound,
    ValidationFailed,
)
from bus_server.permissions import RULES
from bus_server.rates import PostRates
from bus_server.services import validation
from bus_server.services.frame_writer import FrameWriter
from bus_server.services.key_formats import refuse_keys_in_post
from bus_server.settings import Settings
from bus_server.status import TABLE, incident, to_status_proto
from bus_server.store import Append, Appended, wire
from bus_server.store.bodies import first_fields
from bus_server.store.post_hash import plain_post_hash
from bus_server.trace_context import traceparent
from threadbus.limits import (
    MAX_BATCH_POSTS,
    MAX_EPOCH_BYTES,
    MAX_MENTIONS,
    MAX_MESSAGE_BYTES,
    MAX_WITHIN,
)
from threadbus.v1 import bus_service_pb2 as pb
from threadbus.v1.agent_pb2 import AgentKind, Presence
from threadbus.v1.message_pb2 import (
    MESSAGE_KIND_CHAT,
    MESSAGE_KIND_EDIT,
    PRIORITY_NORMAL,
    WAKE_NOBODY,
    WAKE_PEOPLE,
    ExpectReply,
    Message,
    Priority,
    Wake,
)

#: Applied to each post of a batch.
RULE = RULES["BusService.PostMessages"]

#: Maximum number of batches of a stream whose responses have not been sent.
MAX_BATCHES_IN_FLIGHT = 4
#: Maximum bytes, in the response to a batch, of recipients and of error details other than
#: ErrorInfo. Any others are omitted. The rest of a thousand results fits into the fourth MiB.
EXTRA_BYTES = 3 * 1024 * 1024

_CONTENT, _REQUEST_ID = Message.CONTENT_FIELD_NUMBER, Message.REQUEST_ID_FIELD_NUMBER

#: An awaitable of the outcomes of the accepted posts of a batch, in order.
Outcomes: TypeAlias = Awaitable[Sequence[Appended | Exception]]


class Requests(Protocol):
    """The requests of a stream."""

    async def receive(self) -> pb.PostMessagesRequest | None:
        """Returns the next request; None at the end of the stream.

        Raises a BusError if the request is invalid or cannot be received, or if its caller is no
        longer admitted.
        """

    def handled_last(self) -> Callable[[], None]:
        """Returns a function to call once the last received request has been handled."""


def to_append(request: pb.PostMessageRequest, caller: Caller, settings: Settings) -> Append:
    """Returns the store's command for a post, which gets the traceparent of the current call.

    Raises:
        ValidationFailed: a field is missing or invalid.
        MessageTooLarge: the content or the whole message is too large.
        AccessDenied: on_behalf_of is set, and the caller is not an operator.
        ContentBlocked: it contains a key, and the settings refuse those.
    """
    post = _plain(request, caller, settings)
    if post is None:
        post = _general(request, caller, settings)
    if settings.refuse_secrets:
        refuse_keys_in_post(request)
    return post


def _general(request: pb.PostMessageRequest, caller: Caller, settings: Settings) -> Append:
    """Returns the command for any post. Raises the errors of `to_append` but ContentBlocked."""
    if request.on_behalf_of and not caller.operator:
        raise AccessDenied("only an operator may set on_behalf_of")
    content, limit = request.content, settings.max_content_bytes
    message = Message(
        thread=validation.thread_name("thread", request.thread),
        sender=caller.name,
        sender_kind=caller.kind,
        kind=MESSAGE_KIND_CHAT,
        content=content,
        priority=PRIORITY_NORMAL,
    )
    # A character has at most four bytes, so only long texts need be encoded to be counted.
    if len(content) * 4 > limit and (size := len(content.encode())) > limit:
        raise MessageTooLarge("content", size=size, limit=limit)
    if request.edit_of:
        if not content:
            raise ValidationFailed(("content", "required: an edit replaces the content"))
        message.kind = MESSAGE_KIND_EDIT
        message.edit_of = validation.number("edit_of", request.edit_of)
    if request.attachments:
        message.attachments.extend(validation.attachments("attachments", request.attachments))
        message.DiscardUnknownFields()
        for file in message.attachments:
            file.ClearField("size")  # it is the server's to say
    elif not content:
        raise ValidationFailed(("content", "required unless there is an attachment"))
    if request.request_id:
        message.request_id = validation.request_id("request_id", request.request_id)
    if request.reply_to:
        message.reply_to = validation.number("reply_to", request.reply_to)
    if request.mentions:
        message.mentions.extend(validation.mentions("mentions", request.mentions))
    if request.priority:
        priority = validation.enum("priority", request.priority, Priority)
        message.priority = Priority.ValueType(priority)
    if request.wakes:
        message.wakes = _wakes(request)
    if request.labels:
        message.labels.update(validation.labels("labels", request.labels))
    if request.handoff_to:
        message.handoff_to = validation.agent_name("handoff_to", request.handoff_to)
    if request.HasField("expect_reply"):
        message.expect_reply.CopyFrom(_expect_reply(request, message, caller))
        missing = [name for name in message.expect_reply.agents if name not in message.mentions]
        message.mentions.extend(missing)
        validation.at_most("expect_reply.agents", message.mentions, MAX_MENTIONS, "mentions in all")
    if request.HasField("based_on_seq"):
        message.based_on_seq = validation.number("based_on_seq", request.based_on_seq)
    if request.on_behalf_of:
        message.sender = validation.own_agent_name("on_behalf_of", request.on_behalf_of)
        message.posted_by = caller.name
    size = message.ByteSize()
    if size > MAX_MESSAGE_BYTES:
        raise MessageTooLarge("", size=size, limit=MAX_MESSAGE_BYTES)
    message.traceparent = traceparent.get()
    expected = None
    if request.HasField("expected_last_seq"):
        expected = validation.number("expected_last_seq", request.expected_last_seq)
    epoch = request.epoch and validation.text("epoch", request.epoch, MAX_EPOCH_BYTES)
    return Append.of(
        message,
        expected_last_seq=expected,
        epoch=epoch,
        register_sender=bool(request.on_behalf_of),
    )


def _wakes(request: pb.PostMessageRequest) -> Wake.ValueType:
    """Returns whom a post wakes. Raises ValidationFailed if the caller cannot say that."""
    wakes = validation.enum("wakes", request.wakes, Wake)
    if wakes == WAKE_PEOPLE:
        raise ValidationFailed(("wakes", "WAKE_PEOPLE is for the server: choose another value"))
    if request.edit_of:
        raise ValidationFailed(("wakes", "an edit wakes as the message that it edits: omit it"))
    return Wake.ValueType(wakes)


def _expect_reply(request: pb.PostMessageRequest, message: Message, caller: Caller) -> ExpectReply:
    """Returns whom a post asks, all of them. `message`: with its mentions and handoff_to."""
    expected, field = request.expect_reply, "expect_reply"
    if not caller.own_name and not request.on_behalf_of:
        raise ValidationFailed((field, "only an agent can be answered: register one"))
    if request.edit_of:
        raise ValidationFailed((field, "not in an edit: ask in a message of its own"))
    if message.wakes == WAKE_NOBODY:
        raise ValidationFailed(("wakes", "a message that asks for a reply wakes those it asks"))
    agents = validation.mentions(f"{field}.agents", expected.agents) or list(
        dict.fromkeys(filter(None, (*message.mentions, message.handoff_to)))
    )
    if not agents:
        raise ValidationFailed((f"{field}.agents", "nobody: name, mention or hand off to an agent"))
    sender = request.on_behalf_of or caller.name
    if sender in agents:
        raise ValidationFailed((f"{field}.agents", f"{sender} cannot ask itself"))
    checked = ExpectReply(agents=agents)
    if expected.HasField("within"):
        if not 0 < validation.duration(f"{field}.within", expected.within) <= MAX_WITHIN:
            raise ValidationFailed((f"{field}.within", "more than 0 and at most 365 days"))
        checked.within.CopyFrom(expected.within)
    return checked


def _plain(request: pb.PostMessageRequest, caller: Caller, settings: Settings) -> Append | None:
    """Returns the command for a plain post. None if it may not be one: see `_general`.

    Most posts are plain. This takes a third of the time that the general way takes. Raises
    ValidationFailed if the thread's name or the request_id is invalid.
    """
    thread, request_id, content = request.thread, request.request_id, request.content.encode()
    fields, hashed = wire.text(_CONTENT, content), b""
    if request_id:
        fields += wire.text(_REQUEST_ID, request_id.encode())
    # These fields take as much space in the request as in the message. Any other field would make
    # the request larger, and so would characters of the thread's name that are not ASCII.
    plain = request.ByteSize() == wire.text_size(len(thread)) + len(fields)
    if not content or not plain or len(content) > settings.max_content_bytes:
        return None
    first = first_fields(len(content), traceparent.get())
    body = first + _plain_body(thread, caller.name, caller.kind) + fields
    if request_id:
        validation.request_id("request_id", request_id)
        hashed = plain_post_hash(request.content)
    if len(body) > MAX_MESSAGE_BYTES:
        return None
    size = len(body) + 256
    return Append(thread, caller.name, caller.kind, body, request_id, hashed, size=size)


@functools.lru_cache(maxsize=4_096)
def _plain_body(thread: str, sender: str, kind: AgentKind.ValueType) -> bytes:
    """Returns the body of a plain post without its content and request_id.

    Raises ValidationFailed if the thread's name is invalid.
    """
    return Message(
        thread=validation.thread_name("thread", thread),
        sender=sender,
        sender_kind=kind,
        kind=MESSAGE_KIND_CHAT,
        priority=PRIORITY_NORMAL,
    ).SerializeToString()


def fill_response(response: pb.PostMessageResponse, thread: str, done: Appended) -> None:
    """Set the fields of the response to a post that was appended, except the recipients."""
    response.thread = thread
    response.seq = done.seq
    response.create_time.CopyFrom(done.create_time)
    response.last_seq = done.last_seq
    response.epoch = done.epoch
    if done.deduplicated:
        response.deduplicated = True


@dataclass(frozen=True, slots=True)
class _Batch:
    """A request of a stream, validated."""

    #: Each post, or the error that refuses it.
    posts: Sequence[Append | BusError]
    #: Indices of the posts whose recipients were requested.
    with_recipients: frozenset[int]
    #: For each thread whose recipients were requested: the presence of each agent that waited on it
    #: before the batch was submitted.
    states_before: Mapping[str, Mapping[str, Presence.ValueType]]
    #: To be called once the response to the batch has been built.
    handled: Callable[[], None]


class Admission:
    """Which posts are admitted: those that are valid, and not too many."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._rates: PostRates | None = None
        self.reload(settings)

    def reload(self, settings: Settings) -> None:
        """Use other settings from now on. Posts are counted from 0 if their rate changes."""
        self._settings = settings
        limit = settings.posts_per_minute
        if self._rates is None or self._rates.per_minute != limit:
            self._rates = PostRates(limit) if limit else None

    def admit(self, request: pb.PostMessageRequest, caller: Caller, now: int) -> Append:
        """Count a post. Returns its command. Raises what `to_append` does, and RateLimited.

        `now`: as for `PostRates.admit`.
        """
        post = to_append(request, caller, self._settings)
        if self._rates is not None and not caller.operator:
            self._rates.admit(caller.fairness_key, post.thread, now)
        return post

    def give_back(self, caller: Caller, thread: str) -> None:
        """Do not count a post that was admitted: it had been posted before."""
        if self._rates is not None and not caller.operator:
            self._rates.give_back(caller.fairness_key, thread)


class PostStream:
    """One PostMessages call, which receives batches while earlier ones are being committed."""

    def __init__(
        self,
        bus: Bus,
        admission: Admission,
        caller: Caller,
        frames: FrameWriter,
        audit: Callable[..., None],
        rejected: Callable[[str], None],
    ) -> None:
        """
        Args:
            audit: `Audit.event` for this caller.
            rejected: called with the reason of each refusal of a post.
        """
        self._audit = audit
        self._rejected = rejected
        self._bus = bus
        self._admission = admission
        self._caller = caller
        self._frames = frames
        #: How many more batches may be in flight.
        self._slots = asyncio.Semaphore(MAX_BATCHES_IN_FLIGHT)
        #: The submitted batches, in the order received; None: no more will come.
        self._submitted: asyncio.Queue[tuple[_Batch, Outcomes] | None] = asyncio.Queue()
        self._responses: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def run(self, requests: Requests) -> None:
        """Serve the call until the client has half-closed and every batch has its response.

        Raises:
            Draining, TokenInvalid, TokenExpired: the server is shutting down, or the caller's token
                has ended; every submitted batch has its response.
            OutcomeUnknown: it is unknown whether the posts of a batch were stored. The client
                repeats the batches without a response.
            BusError: any other error: a request could not be received, or is not valid. Every batch
                submitted before has its response.
        """
        receiving = asyncio.create_task(self._receive_all(requests))
        name, token, end = self._caller.own_name, self._caller.token, self._caller.expire_time
        with self._bus.post_streams.opened(receiving, name, token, end) as stream:
            await self._respond_to(receiving)
        if receiving.cancelled() and stream.error is not None:
            raise stream.error
        receiving.result()

    async def _respond_to(self, receiving: "asyncio.Task[None]") -> None:
        """Send the responses until every batch that this task receives has one."""
        responding = asyncio.create_task(self._respond_all())
        try:
            while (response := await self._responses.get()) is not None:
                # No timeout: posts that were stored must not be reported as refused.
                await self._frames.reserve(len(response), math.inf)
                await self._frames.send(response)
                self._slots.release()
            await responding
            await asyncio.wait([receiving])
        finally:
            receiving.cancel()
            responding.cancel()

    async def _receive_all(self, requests: Requests) -> None:
        try:
            while True:
                # Acquire a slot first: a client that does not read responses can send no more
                # batches.
                await self._slots.acquire()
                request = await requests.receive()
                if request is None:
                    return
                batch = self._batch(request, requests.handled_last())
                del request  # only its posts wait for the disk
                accepted = [post for post in batch.posts if isinstance(post, Append)]
                outcomes = await self._bus.post_many(accepted)
                if self._caller.operator:
                    outcomes.add_done_callback(functools.partial(self._audit_posts, accepted))
                self._submitted.put_nowait((batch, outcomes))
                del batch, accepted
        finally:
            self._submitted.put_nowait(None)

    async def _respond_all(self) -> None:
        """Build the response to each committed batch, even while earlier ones wait to be sent.

        So only responses, not batches, are kept for a client that does not read.
        """
        try:
            while (submitted := await self._submitted.get()) is not None:
                self._responses.put_nowait(await self._respond(*submitted))
                submitted[0].handled()
                del submitted
        finally:
            self._responses.put_nowait(None)

    def _batch(self, request: pb.PostMessagesRequest, handled: Callable[[], None]) -> _Batch:
        if not 1 <= len(request.posts) <= MAX_BATCH_POSTS:
            raise ValidationFailed(("posts", f"1–{MAX_BATCH_POSTS:,} posts"))
        now = time.monotonic_ns()
        posts = [self._post(post, now) for post in request.posts]
        with_recipients = frozenset(
            at for at, post in enumerate(request.posts) if post.include_recipients
        )
        threads = {request.posts[at].thread for at in with_recipients}
        states_before = {thread: self._bus.waiting_on(thread) for thread in threads}
        return _Batch(posts, with_recipients, states_before, handled)

    def _post(self, request: pb.PostMessageRequest, now: int) -> Append | BusError:
        try:
            if self._caller.prefixes:
                RULE.check_threads(self._caller.prefixes, [request.thread])
            return self._admission.admit(request, self._caller, now)
        except BusError as refusal:
            return refusal.without_traceback()

    async def _respond(self, batch: _Batch, pending: Outcomes) -> bytes:
        try:
            outcomes = iter(await pending)
        except OutcomeUnknown:
            raise  # ends the stream: the client repeats the batches without a response
        except BusError as error:  # the whole batch was refused
            outcomes = iter([error.without_traceback()] * len(batch.posts))
        except Exception as bug:  # noqa: BLE001 - a bug fails the batch, not the stream
            outcomes = iter([incident("PostMessages", bug)] * len(batch.posts))
        response = pb.PostMessagesResponse()
        extras = 0
        for at, post in enumerate(batch.posts):
            done = next(outcomes) if isinstance(post, Append) else post
            result = response.results.add()
            if isinstance(done, OutcomeUnknown):
                raise done
            if isinstance(done, Exception):
                refusal = done if isinstance(done, BusError) else incident("PostMessages", done)
                if isinstance(refusal, ThreadNotFound):
                    refusal = refusal.seen_through(self._caller.prefixes)
                reason = TABLE[type(refusal)][1]
                if isinstance(refusal, AccessDenied | ContentBlocked):
                    self._audit("refused", method="PostMessages", reason=reason)
                if reason:
                    self._rejected(reason)
                result.status.CopyFrom(to_status_proto(refusal))
                extras += sum(detail.ByteSize() for detail in result.status.details[1:])
                if extras > EXTRA_BYTES:
                    del result.status.details[1:]  # the first is ErrorInfo
            elif isinstance(post, Append):
                thread = post.thread
                fill_response(result.response, thread, done)
                if done.deduplicated:
                    self._admission.give_back(self._caller, thread)
                if at in batch.with_recipients and extras < EXTRA_BYTES:
                    found = await self._bus.recipients(post, batch.states_before[thread])
                    extras += sum(participant.ByteSize() for participant in found)
                    if extras <= EXTRA_BYTES:
                        result.response.recipients.extend(found)
        return response.SerializeToString()

    def _audit_posts(
        self, posts: Sequence[Append], outcomes: "asyncio.Future[list[Appended | Exception]]"
    ) -> None:
        """Log the posts on behalf of agents that were stored, even if the call was cancelled."""
        if outcomes.cancelled() or outcomes.exception():
            return
        on_behalf = Counter(
            (post.sender, post.thread)
            for post, done in zip(posts, outcomes.result(), strict=True)
            if isinstance(done, Appended) and post.header and post.header.posted_by
        )
        for (about, thread), count in on_behalf.items():
            self._audit("posted_on_behalf", about=about, thread=thread, posts=count)
