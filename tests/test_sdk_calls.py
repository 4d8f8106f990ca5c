"""Which calls are retried, after which failures, and how often, with a scripted server."""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest

from bus_client import (
    AlreadyExists,
    BusClient,
    BusError,
    Draining,
    InternalError,
    OutcomeUnknown,
    StoreBusy,
    Unreachable,
)
from tests.polling import until
from tests.rpcs import RPCS
from tests.script import THREAD, Failure, cursor, scripted
from tests.wait_frames import BOUND
from threadbus.v1.admin_service_pb2 import (
    CreateTokenResponse,
    GetStatusResponse,
    ListTokensResponse,
    ListWaitsResponse,
    RevokeTokenResponse,
)
from threadbus.v1.agent_service_pb2 import (
    EndSessionResponse,
    GetAgentResponse,
    ListAgentsResponse,
    RegisterAgentResponse,
    RotateTokenResponse,
    UnregisterAgentResponse,
    UpdateAgentResponse,
)
from threadbus.v1.bus_service_pb2 import (
    GetMessageResponse,
    GetServerInfoResponse,
    HeartbeatResponse,
    ListMessagesResponse,
    ListRequestsResponse,
    PostMessageRequest,
    PostMessageResponse,
    WithdrawRequestResponse,
)
from threadbus.v1.message_pb2 import Message
from threadbus.v1.thread_pb2 import THREAD_STATE_CLOSED, Thread
from threadbus.v1.thread_service_pb2 import (
    CreateThreadResponse,
    DeleteThreadResponse,
    GetThreadRequest,
    GetThreadResponse,
    JoinThreadResponse,
    LeaveThreadResponse,
    ListParticipantsResponse,
    ListThreadsResponse,
    SetThreadStateResponse,
    UpdateThreadResponse,
)

_Code = grpc.StatusCode
DRAINING = Failure(_Code.UNAVAILABLE, "DRAINING")
STORE_BUSY = Failure(_Code.UNAVAILABLE, "STORE_BUSY")
INTERNAL = Failure(_Code.INTERNAL, "INTERNAL", {"incident": "c0ffee"})
#: The connection broke: it is unknown whether the call was done.
BROKEN = [Failure(_Code.UNAVAILABLE), Failure(_Code.CANCELLED), Failure(_Code.DEADLINE_EXCEEDED)]

Call = Callable[[BusClient], Awaitable[Any]]

#: A call of every unary method, with a response.
CALLS: dict[str, tuple[Call, Any]] = {
    "GetThread": (
        lambda bus: bus.get_thread(THREAD),
        GetThreadResponse(thread=Thread(name=THREAD)),
    ),
    "JoinThread": (lambda bus: bus.join(THREAD), JoinThreadResponse(cursor=cursor(0))),
    "ListThreads": (lambda bus: anext(bus.list_threads(), None), ListThreadsResponse()),
    "ListMessages": (lambda bus: bus.thread(THREAD).messages(), ListMessagesResponse()),
    "GetMessage": (
        lambda bus: bus.thread(THREAD).message(1),
        GetMessageResponse(message=Message(thread=THREAD, seq=1)),
    ),
    "ListRequests": (lambda bus: anext(bus.list_requests(), None), ListRequestsResponse()),
    "WithdrawRequest": (lambda bus: bus.thread(THREAD).withdraw(1), WithdrawRequestResponse()),
    "PostMessage": (lambda bus: bus.thread(THREAD).post("x"), PostMessageResponse(seq=1)),
    "LeaveThread": (lambda bus: bus.thread(THREAD).leave(), LeaveThreadResponse()),
    "ListParticipants": (
        lambda bus: anext(bus.thread(THREAD).list_participants(), None),
        ListParticipantsResponse(),
    ),
    "ListAgents": (lambda bus: anext(bus.list_agents(), None), ListAgentsResponse()),
    "UpdateAgent": (lambda bus: bus.update_agent(description="x"), UpdateAgentResponse()),
    "EndSession": (lambda bus: bus.end_session(), EndSessionResponse()),
    "ListWaits": (lambda bus: anext(bus.list_waits(), None), ListWaitsResponse()),
    "GetStatus": (lambda bus: bus.status(), GetStatusResponse()),
    "GetServerInfo": (lambda bus: bus.server_info(), GetServerInfoResponse()),
    "Heartbeat": (lambda bus: bus.heartbeat(), HeartbeatResponse()),
    "GetAgent": (lambda bus: bus.get_agent("x"), GetAgentResponse()),
    "RegisterAgent": (lambda bus: bus.register_agent("x"), RegisterAgentResponse()),
    "CreateThread": (lambda bus: bus.create_thread(THREAD), CreateThreadResponse()),
    "DeleteThread": (lambda bus: bus.thread(THREAD).delete(), DeleteThreadResponse()),
    "SetThreadState": (
        lambda bus: bus.thread(THREAD).set_state(THREAD_STATE_CLOSED),
        SetThreadStateResponse(),
    ),
    "UpdateThread": (lambda bus: bus.thread(THREAD).update(stage="x"), UpdateThreadResponse()),
    "UnregisterAgent": (lambda bus: bus.unregister_agent("x"), UnregisterAgentResponse()),
    "CreateToken": (lambda bus: bus.create_token("x"), CreateTokenResponse(secret="x" * 32)),
    "ListTokens": (lambda bus: anext(bus.list_tokens(), None), ListTokensResponse()),
    "RevokeToken": (lambda bus: bus.revoke_token("0" * 16), RevokeTokenResponse()),
    "RotateToken": (lambda bus: bus.rotate_token(), RotateTokenResponse(token="x" * 32)),
}

#: Calls that are retried when the outcome is unknown: by their level, posts by their request_id.
REPEATABLE = [
    str(rpc) for rpc in RPCS if not rpc.streams and (rpc.idempotent or str(rpc) == "PostMessage")
]
#: Calls that must not be made twice: the second would see the effect of the first.
ONCE_ONLY = [name for name in CALLS if name not in REPEATABLE]


def test_every_unary_method_is_in_the_table() -> None:
    assert set(CALLS) == {str(rpc) for rpc in RPCS if not rpc.streams}


@pytest.mark.slow
@pytest.mark.parametrize("rpc", REPEATABLE)
async def test_calls_that_are_safe_to_repeat_are_retried(rpc: str) -> None:
    call, answer = CALLS[rpc]
    for failure in (*BROKEN, DRAINING, STORE_BUSY):
        async with scripted() as script, BusClient(script.address) as bus:
            script.answer(rpc, failure)
            script.answer(rpc, answer)
            before = len(script.requests)
            async with asyncio.timeout(BOUND):
                await call(bus)
            first, second = (request for _, request in script.requests[before:])
            assert first == second  # above all with the same request_id


@pytest.mark.parametrize("failure", BROKEN, ids=lambda failure: failure.code.name)
@pytest.mark.parametrize("rpc", ONCE_ONLY)
async def test_calls_that_must_not_be_made_twice_end_with_an_unknown_outcome(
    rpc: str, failure: Failure
) -> None:
    call, answer = CALLS[rpc]
    async with scripted() as script, BusClient(script.address) as bus:
        script.answer(rpc, failure)
        script.answer(rpc, answer)
        before = len(script.requests)
        with pytest.raises(OutcomeUnknown) as unknown:
            await call(bus)
        assert len(script.requests) == before + 1
    assert (unknown.value.request_id, unknown.value.code) == ("", failure.code.name)


@pytest.mark.parametrize("failure", [DRAINING, STORE_BUSY], ids=lambda failure: failure.reason)
@pytest.mark.parametrize("rpc", ONCE_ONLY)
async def test_unsafe_calls_are_retried_when_the_server_says_that_nothing_was_done(
    rpc: str, failure: Failure
) -> None:
    call, answer = CALLS[rpc]
    async with scripted() as script, BusClient(script.address) as bus:
        script.answer(rpc, failure)
        script.answer(rpc, answer)
        before = len(script.requests)
        async with asyncio.timeout(BOUND):
            await call(bus)
        assert len(script.requests) == before + 2


@pytest.mark.parametrize("rpc", CALLS)
async def test_an_internal_error_is_not_retried(rpc: str) -> None:
    call, _ = CALLS[rpc]
    changes = rpc == "PostMessage" or rpc in ONCE_ONLY
    async with scripted() as script, BusClient(script.address) as bus:
        script.answer(rpc, INTERNAL)
        before = len(script.requests)
        with pytest.raises(OutcomeUnknown if changes else InternalError) as failed:
            await call(bus)
        assert len(script.requests) == before + 1
        if isinstance(failed.value, InternalError):
            assert failed.value.incident == "c0ffee"
        elif rpc == "PostMessage":
            assert isinstance(failed.value, OutcomeUnknown)
            (posted,) = script.asked(PostMessageRequest)
            assert failed.value.request_id == posted.request_id != ""


@pytest.mark.parametrize(
    ("failures", "expected"),
    [
        ([DRAINING, DRAINING], Draining),
        ([DRAINING, STORE_BUSY], StoreBusy),
        ([BROKEN[0], BROKEN[1]], OutcomeUnknown),
        # A later failure that says "nothing was done" is about that attempt only.
        ([BROKEN[0], DRAINING], OutcomeUnknown),
        ([BROKEN[1], Failure(_Code.ALREADY_EXISTS)], AlreadyExists),
    ],
    ids=["draining", "busy", "broken", "broken-then-draining", "broken-then-answered"],
)
async def test_after_its_deadline_a_post_raises_what_is_known(
    failures: list[Failure], expected: type[BusError]
) -> None:
    async with scripted() as script, BusClient(script.address) as bus:
        script.answer("PostMessage", failures[0])
        # There is no retry after the deadline.
        script.answer("PostMessage", dataclasses.replace(failures[1], retry_delay=1_000.0))
        async with asyncio.timeout(BOUND):
            with pytest.raises(expected) as failed:
                await bus.thread(THREAD).post("x")
        assert type(failed.value) is expected
        first, second = script.asked(PostMessageRequest)
        assert first == second
        if isinstance(failed.value, OutcomeUnknown):
            assert failed.value.request_id == first.request_id


@pytest.mark.slow
async def test_a_retry_waits_as_long_as_the_server_says() -> None:
    async with scripted() as script, BusClient(script.address) as bus:
        script.answer("GetThread", Failure(_Code.UNAVAILABLE, "STORE_BUSY", retry_delay=0.5))
        script.answer("GetThread", GetThreadResponse(thread=Thread(name="x")))
        await bus.get_thread("x")
        first, second = (
            at for at, request in script.requests if isinstance(request, GetThreadRequest)
        )
        assert second - first >= 0.5


@pytest.mark.parametrize("token", ["two\nlines", "nul\0"])
async def test_a_token_that_grpc_cannot_send_is_an_error_that_hides_it(token: str) -> None:
    async with scripted() as script, asyncio.timeout(BOUND):
        with pytest.raises(BusError) as failed:
            await BusClient(script.address, token=token).connect()
        assert token not in repr(failed.value)
        assert script.requests == []


@pytest.mark.slow
async def test_a_call_takes_no_longer_than_the_clients_timeout() -> None:
    async with scripted() as script, BusClient(script.address, timeout=0.5) as bus:
        script.answer("GetThread", asyncio.Event())
        async with asyncio.timeout(BOUND):
            with pytest.raises(Unreachable) as unreachable:
                await bus.get_thread("x")
    assert unreachable.value.code == "DEADLINE_EXCEEDED"


async def test_a_post_is_not_retried_without_time_for_a_response() -> None:
    async with scripted() as script, BusClient(script.address) as bus:
        script.answer("PostMessage", dataclasses.replace(STORE_BUSY, retry_delay=0.8))
        with pytest.raises(StoreBusy):  # the outcome is known
            await bus.thread(THREAD).post("x", timeout=1.0)
        assert len(script.asked(PostMessageRequest)) == 1
        # However short the timeout, there is one attempt.
        script.answer("PostMessage", PostMessageResponse(seq=1))
        assert (await bus.thread(THREAD).post("x", timeout=0.2)).seq == 1


@pytest.mark.parametrize("rpc", ["PostMessage", *ONCE_ONLY])
async def test_calls_in_flight_when_the_client_is_closed_have_an_unknown_outcome(rpc: str) -> None:
    call, _ = CALLS[rpc]
    async with scripted() as script, asyncio.timeout(BOUND):
        async with BusClient(script.address) as bus:
            script.answer(rpc, asyncio.Event())
            before = len(script.requests)
            calling = asyncio.ensure_future(call(bus))
            await until(lambda: len(script.requests) > before)
        with pytest.raises(OutcomeUnknown, match="closed") as unknown:
            await calling
        posted = script.asked(PostMessageRequest)
        assert unknown.value.request_id == (posted[0].request_id if posted else "")


async def test_a_read_in_flight_just_ends_with_the_client() -> None:
    async with scripted() as script, asyncio.timeout(BOUND):
        async with BusClient(script.address) as bus:
            script.answer("GetThread", asyncio.Event())
            calling = asyncio.create_task(bus.get_thread("x"))
            await until(lambda: bool(script.asked(GetThreadRequest)))
        with pytest.raises(RuntimeError, match="closed"):
            await calling


@pytest.mark.slow
@pytest.mark.parametrize(
    ("failure", "expected"), [(STORE_BUSY, RuntimeError), (BROKEN[0], OutcomeUnknown)], ids=str
)
async def test_a_post_whose_retry_the_closing_prevents_raises_the_first_failure(
    failure: Failure, expected: type[Exception]
) -> None:
    async with scripted() as script, asyncio.timeout(BOUND):
        async with BusClient(script.address) as bus:
            script.answer("PostMessage", dataclasses.replace(failure, retry_delay=0.3))
            posting = asyncio.create_task(bus.thread(THREAD).post("x"))
            await until(lambda: bool(script.asked(PostMessageRequest)))
            # It is complete once a later call is.
            script.answer("GetThread", GetThreadResponse(thread=Thread(name="x")))
            await bus.get_thread("x")
        with pytest.raises(expected):
            await posting
        assert len(script.asked(PostMessageRequest)) == 1
