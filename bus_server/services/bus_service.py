"""BusService: posts, waits, heartbeats and reads."""

import functools
import re
import time
from collections.abc import Awaitable

from google.protobuf.duration_pb2 import Duration

from bus_server import __version__, encoding
from bus_server.audit import Audit
from bus_server.auth import Caller
from bus_server.bus import Bus
from bus_server.cleaner import default_limits
from bus_server.errors import ThreadNotFound, ValidationFailed
from bus_server.presence.agent_state import SETTABLE, Heartbeat
from bus_server.services import validation
from bus_server.services.frame_writer import FrameWriter
from bus_server.services.posting import Admission, PostStream, Requests, fill_response
from bus_server.settings import Settings
from bus_server.statistics import Statistics
from bus_server.store import FIRST_REQUEST, RequestPageKey, RequestsWanted, Withdraw
from bus_server.store.interface import Store
from bus_server.waits import WaitRequest
from threadbus import limits
from threadbus.v1 import bus_service_pb2 as pb
from threadbus.v1.agent_pb2 import Presence
from threadbus.v1.request_pb2 import RequestState

#: Seconds between keepalive frames: the default, the minimum and the maximum.
DEFAULT_KEEPALIVE, MIN_KEEPALIVE, MAX_KEEPALIVE = 45.0, 1.0, 300.0
#: A RequestPageKey: three numbers, and the name of an agent.
_REQUEST_PAGE = re.compile(r"(\d{1,18})-(\d{1,18})-(\d{1,18})-([a-z0-9._-]{1,63})", re.ASCII)


class BusService:
    """The servicer of threadbus.v1.BusService. Methods raise BusError as the proto says."""

    def __init__(
        self, bus: Bus, audit: Audit, settings: Settings, store: Store, statistics: Statistics
    ) -> None:
        self._rejected = statistics.rejected
        self._bus = bus
        self._audit = audit
        self._settings = settings
        self._admission = Admission(settings)
        self._epoch, self._clock = store.epoch, store.clock

    def reload(self, settings: Settings) -> None:
        """Use other settings from now on, also in open calls of PostMessages."""
        self._settings = settings
        self._admission.reload(settings)

    async def PostMessage(
        self, request: pb.PostMessageRequest, caller: Caller
    ) -> pb.PostMessageResponse:
        post = self._admission.admit(request, caller, time.monotonic_ns())
        thread, with_recipients = request.thread, request.include_recipients
        del request  # it may be large, and would be kept while the post waits for the disk
        response = pb.PostMessageResponse()
        if with_recipients:
            done, recipients = await self._bus.post_to_recipients(post)
            response.recipients.extend(recipients)
        else:
            done = await self._bus.post(post)
        fill_response(response, thread, done)
        if done.deduplicated:
            self._admission.give_back(caller, thread)
        return response

    async def PostMessages(
        self, requests: Requests, caller: Caller, frames: FrameWriter, peer: str
    ) -> None:
        audit = functools.partial(self._audit.event, caller=caller, peer=peer)
        stream = PostStream(self._bus, self._admission, caller, frames, audit, self._rejected)
        await stream.run(requests)

    def WaitMessages(
        self,
        request: pb.WaitMessagesRequest,
        caller: Caller,
        time_remaining: float | None,
        frames: FrameWriter,
        peer: str,
    ) -> Awaitable[None]:
        starts = validation.cursors("threads", request.threads)
        if request.all_my_threads and not caller.own_name:
            raise ValidationFailed(
                ("all_my_threads", "an anonymous caller has no threads: register an agent")
            )
        if request.all_my_threads and request.include_participants:
            raise ValidationFailed(("include_participants", "not with all_my_threads"))
        if not starts and not request.all_my_threads:
            raise ValidationFailed(("threads", "at least one, or set all_my_threads"))
        max_wait, keepalive = None, DEFAULT_KEEPALIVE
        if request.HasField("max_wait"):
            max_wait = validation.duration("max_wait", request.max_wait)
        if request.HasField("keepalive_interval"):
            interval = validation.duration("keepalive_interval", request.keepalive_interval)
            keepalive = min(max(interval, MIN_KEEPALIVE), MAX_KEEPALIVE)
        wait = WaitRequest(
            starts=starts,
            filter=validation.message_filter("filter", request.filter, caller.own_name),
            max_messages=validation.number("max_messages", request.max_messages),
            max_bytes=validation.number("max_bytes", request.max_bytes),
            trim=validation.trim(request),
            min_messages=validation.number("min_messages", request.min_messages),
            count_all=request.count_all,
            max_wait=max_wait,
            time_remaining=time_remaining,
            keepalive_interval=keepalive,
            agent=caller.own_name,
            token=caller.token,
            expire_time=caller.expire_time,
            include_participants=request.include_participants,
            observe=request.observe,
            all_my_threads=request.all_my_threads,
            prefixes=caller.prefixes,
            peer=peer,
        )
        return self._bus.follow(wait, frames)  # follow keeps nothing of the request

    async def Heartbeat(self, request: pb.HeartbeatRequest, caller: Caller) -> pb.HeartbeatResponse:
        cursors = validation.cursors("read_cursors", request.read_cursors)
        state = validation.enum("state", request.state, Presence)
        if state and state not in SETTABLE:
            raise ValidationFailed(("state", "WAITING, WORKING, IDLE or AWAITING_HUMAN"))
        validation.text("status_text", request.status_text, limits.MAX_STATUS_TEXT_BYTES)
        lease = None
        if request.HasField("lease"):
            lease = min(validation.duration("lease", request.lease), limits.MAX_LEASE)
        response = pb.HeartbeatResponse()
        _set_seconds(response.heartbeat_interval, self._settings.heartbeat_interval)
        _set_seconds(response.agent_timeout, self._settings.agent_timeout)
        if caller.own_name:
            if caller.prefixes:
                cursors = tuple(each for each in cursors if each[0].startswith(caller.prefixes))
            beat = Heartbeat(Presence.ValueType(state), request.status_text, lease, cursors)
            lease_end, unread = await self._bus.heartbeat(caller.own_name, beat, caller.prefixes)
            response.expire_time.FromMicroseconds(lease_end)
            response.unread.extend(unread)
        return response

    async def ListMessages(
        self, request: pb.ListMessagesRequest, caller: Caller
    ) -> pb.ListMessagesResponse:
        page = await self._bus.page(
            validation.thread_name("thread", request.thread),
            caller.own_name,
            after=validation.number("after_seq", request.after_seq),
            before=validation.number("before_seq", request.before_seq),
            limit=validation.page_size("limit", request.limit),
            newest=request.newest,
            epoch=validation.text("epoch", request.epoch, limits.MAX_EPOCH_BYTES),
            wanted=validation.message_filter("filter", request.filter, caller.own_name),
            trim=validation.trim(request),
            max_bytes=validation.number("max_bytes", request.max_bytes),
        )
        response: pb.ListMessagesResponse = encoding.ListMessagesResponse(
            messages=page.bodies,
            head_seq=page.head.seq,
            first_seq=page.head.first_seq,
            next_after_seq=page.next_after,
            next_before_seq=page.next_before,
            has_more=page.more,
            epoch=page.head.epoch,
        )
        return response

    async def GetMessage(
        self, request: pb.GetMessageRequest, caller: Caller
    ) -> pb.GetMessageResponse:
        thread = validation.thread_name("thread", request.thread)
        if request.seq < 1:
            raise ValidationFailed(("seq", "seqs begin at 1"))
        message = await self._bus.message(thread, request.seq, validation.trim(request))
        response: pb.GetMessageResponse = encoding.GetMessageResponse(message=message)
        return response

    async def ListRequests(
        self, request: pb.ListRequestsRequest, caller: Caller
    ) -> pb.ListRequestsResponse:
        for field in ("asker", "agent"):
            if name := getattr(request, field):
                validation.agent_name(field, name)
        if request.thread:
            validation.thread_name("thread", request.thread)
            if not request.thread.startswith(caller.prefixes or ""):
                raise ThreadNotFound([request.thread])
        validation.at_most("states", request.states, limits.MAX_FILTER_VALUES)
        states = [
            RequestState.ValueType(
                validation.enum(f"states[{at}]", state, RequestState, unset=False)
            )
            for at, state in enumerate(request.states)
        ]
        size = validation.page_size("page_size", request.page_size)
        wanted = RequestsWanted(
            states or [state for state in RequestState.values() if state],
            request.asker,
            request.agent,
            request.thread,
            caller.prefixes,
        )
        found = await self._bus.requests(wanted, size + 1, _request_key(request.page_token))
        response = pb.ListRequestsResponse(requests=[each.proto() for each in found[:size]])
        if len(found) > size:
            response.next_page_token = "-".join(map(str, found[size - 1].page_key))
        return response

    async def WithdrawRequest(
        self, request: pb.WithdrawRequestRequest, caller: Caller
    ) -> pb.WithdrawRequestResponse:
        if not request.seq:
            raise ValidationFailed(("seq", "required"))
        withdraw = Withdraw(
            validation.thread_name("thread", request.thread),
            validation.number("seq", request.seq),
            caller.own_name,
            caller.operator,
            validation.text("epoch", request.epoch, limits.MAX_EPOCH_BYTES),
        )
        return pb.WithdrawRequestResponse(requests=await self._bus.withdraw_request(withdraw))

    async def GetServerInfo(
        self, request: pb.GetServerInfoRequest, caller: Caller
    ) -> pb.GetServerInfoResponse:
        settings = self._settings
        response = pb.GetServerInfoResponse(
            version=__version__,
            epoch=self._epoch,
            durability=settings.durability,
            auth=settings.auth,
            thread_rights=settings.thread_rights,
            agent=caller.name,
            scopes=caller.scopes,
            thread_prefixes=caller.prefixes,
        )
        if caller.expire_time:
            response.token_expire_time.FromMicroseconds(self._clock.wall(caller.expire_time))
        response.server_time.FromMicroseconds(self._clock.time())
        _set_seconds(response.heartbeat_interval, settings.heartbeat_interval)
        _set_seconds(response.agent_timeout, settings.agent_timeout)
        _set_seconds(response.working_timeout, settings.working_timeout)
        if caller.scopes:
            response.limits.CopyFrom(
                pb.ServerLimits(
                    max_content_bytes=settings.max_content_bytes,
                    max_message_bytes=limits.MAX_MESSAGE_BYTES,
                    max_batch_posts=limits.MAX_BATCH_POSTS,
                    max_wait_threads=limits.MAX_WAIT_THREADS,
                    max_open_waits=settings.max_open_waits,
                    max_streams=settings.max_streams,
                    max_request_bytes=settings.max_request_bytes,
                    max_frame_bytes=settings.max_frame_bytes,
                    max_anonymous_waits=settings.max_anonymous_waits,
                    posts_per_minute=settings.posts_per_minute,
                    threads_per_caller=settings.threads_per_caller,
                    agents_per_caller=settings.agents_per_caller,
                )
            )
            response.default_retention.CopyFrom(default_limits(settings).proto())
            _set_seconds(response.limits.max_lease, limits.MAX_LEASE)
            _set_seconds(response.limits.request_timeout, settings.request_timeout)
        return response


def _request_key(page_token: str) -> RequestPageKey:
    """Returns the key in a page token of ListRequests. Raises ValidationFailed."""
    if not page_token:
        return FIRST_REQUEST
    match = _REQUEST_PAGE.fullmatch(page_token)
    if match is None:
        raise ValidationFailed(("page_token", "not a page token of this server"))
    return RequestPageKey(int(match[1]), int(match[2]), int(match[3]), match[4])


def _set_seconds(duration: Duration, value: float) -> None:
    """Set a duration field to a number of seconds."""
    duration.FromMicroseconds(round(value * 1e6))


SERVICE = pb.DESCRIPTOR.services_by_name["BusService"]
