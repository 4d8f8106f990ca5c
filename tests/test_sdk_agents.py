"""BusClient: the calls about agents, with a scripted server that records the requests."""

import asyncio
import json
from pathlib import Path

import grpc
import pytest

from bus_client import (
    AccessDenied,
    Agent,
    BusClient,
    CredentialsError,
    InternalError,
    InvalidArgument,
    Presence,
    SyncMode,
    Thread,
    Unreachable,
    Wait,
)
from tests.conftest import StartServer
from tests.members import take
from tests.polling import until
from tests.script import EPOCH, THREAD, Failure, Script, batch, cursor, ending, scripted, started
from tests.wait_frames import BOUND, seconds
from threadbus.v1.admin_service_pb2 import ListWaitsRequest, ListWaitsResponse
from threadbus.v1.agent_service_pb2 import (
    EndSessionRequest,
    EndSessionResponse,
    ListAgentsRequest,
    ListAgentsResponse,
    RotateTokenRequest,
    RotateTokenResponse,
    UnregisterAgentRequest,
    UnregisterAgentResponse,
    UpdateAgentRequest,
    UpdateAgentResponse,
)
from threadbus.v1.bus_service_pb2 import (
    GetServerInfoResponse,
    HeartbeatRequest,
    HeartbeatResponse,
    WaitEnding,
    WaitMessagesRequest,
)
from threadbus.v1.thread_service_pb2 import (
    CreateThreadRequest,
    CreateThreadResponse,
    JoinThreadRequest,
)

NEW_TOKEN = "n" * 43
MORE = "more"


def agent(script: Script, home: Path, *, heartbeats: bool = False) -> BusClient:
    """A client of the scripted server, registered by its name."""
    credentials = home / "credentials.json"
    return BusClient(script.address, agent="worker", credentials=credentials, heartbeats=heartbeats)


def asked(script: Script) -> list[str]:
    """Returns the names of the methods that were called, in order."""
    return [type(request).__name__.removesuffix("Request") for _, request in script.requests]


async def test_agents_are_listed_by_presence_and_page_by_page() -> None:
    async with scripted() as script, BusClient(script.address) as bus:
        script.answer(
            "ListAgents", ListAgentsResponse(agents=[Agent(name="a")], next_page_token=MORE)
        )
        script.answer("ListAgents", ListAgentsResponse(agents=[Agent(name="b")]))
        wanted = [Presence.PRESENCE_WAITING, Presence.PRESENCE_WORKING]
        assert [agent.name async for agent in bus.list_agents(presences=wanted)] == ["a", "b"]
        requests = script.asked(ListAgentsRequest)
        assert [request.page_token for request in requests] == ["", MORE]
        assert all(list(request.presences) == wanted for request in requests)


async def test_waits_are_listed_for_operators_page_by_page() -> None:
    wait = Wait(agent="a", threads=[cursor(3)])
    async with scripted() as script, BusClient(script.address) as bus:
        script.answer("ListWaits", ListWaitsResponse(waits=[wait], next_page_token=MORE))
        script.answer("ListWaits", ListWaitsResponse(waits=[wait]))
        assert [wait async for wait in bus.list_waits(agent="a", thread=THREAD)] == [wait, wait]
        assert script.asked(ListWaitsRequest) == [
            ListWaitsRequest(agent="a", thread=THREAD, page_token=token) for token in ("", MORE)
        ]
        script.answer("ListWaits", Failure(grpc.StatusCode.PERMISSION_DENIED, "ACCESS_DENIED"))
        with pytest.raises(AccessDenied):
            await anext(bus.list_waits())


async def test_only_given_fields_are_changed() -> None:
    async with scripted() as script, BusClient(script.address) as bus:
        for _ in range(3):
            script.answer("UpdateAgent", UpdateAgentResponse(agent=Agent(name="a")))
        assert (await bus.update_agent("a", description="")).name == "a"
        await bus.update_agent(display_name="Ada", labels={"team": "blue"})
        await bus.update_agent(labels={})
    first, second, third = script.asked(UpdateAgentRequest)
    assert (first.agent, first.description, list(first.update_mask.paths)) == (
        *("a", ""),
        ["description"],
    )
    assert (second.agent, second.display_name, dict(second.labels)) == (
        *("", "Ada"),
        {"team": "blue"},
    )
    assert set(second.update_mask.paths) == {"display_name", "labels"}
    assert (dict(third.labels), list(third.update_mask.paths)) == ({}, ["labels"])


async def test_a_thread_can_be_created_strict() -> None:
    async with scripted() as script, BusClient(script.address) as bus:
        answer = Thread(name=THREAD, epoch=EPOCH, sync_mode=SyncMode.SYNC_MODE_STRICT)
        script.answer("CreateThread", CreateThreadResponse(thread=answer))
        assert await bus.create_thread(THREAD, sync_mode=SyncMode.SYNC_MODE_STRICT) == answer
        assert script.asked(CreateThreadRequest) == [
            CreateThreadRequest(thread=THREAD, sync_mode=SyncMode.SYNC_MODE_STRICT)
        ]


async def test_end_session_first_reports_what_was_read_and_closing_ends_no_session(
    tmp_path: Path,
) -> None:
    async with scripted() as script:
        async with asyncio.timeout(BOUND), agent(script, tmp_path) as bus:
            script.answer("WaitMessages", started(), batch(1, 2), asyncio.Event())
            assert await take(bus.thread(THREAD).follow(), 2) == ["1", "2"]
            await bus.end_session()
            assert asked(script)[-2:] == ["Heartbeat", "EndSession"]
        async with agent(script, tmp_path):
            pass
        assert asked(script).count("EndSession") == 1
        assert asked(script)[-1] == "GetServerInfo"  # which looks whether the token is valid


@pytest.mark.slow
@pytest.mark.parametrize("said_by", ["this client", "another process"])
async def test_heartbeats_pause_after_the_session_until_the_agent_is_back(
    tmp_path: Path, said_by: str
) -> None:
    async with scripted() as script, asyncio.timeout(BOUND):
        for _ in range(20):
            script.answer("Heartbeat", HeartbeatResponse(heartbeat_interval=seconds(0.5)))
        async with agent(script, tmp_path, heartbeats=True) as bus:
            handle = await bus.join(THREAD)
            await until(lambda: len(script.asked(HeartbeatRequest)) >= 2)
            (token,) = set(script.tokens(HeartbeatRequest))
            if said_by == "this client":
                await bus.end_session()
            else:
                over = ending(WaitEnding.REASON_SESSION_ENDED, upto=0)
                script.answer("WaitMessages", started(), over)
                assert await handle.wait(timeout=60) == []

            said = len(script.asked(HeartbeatRequest))
            other = BusClient(script.address, agent="other", credentials=tmp_path / "other.json")
            async with other:  # its heartbeats continue
                await until(lambda: len(script.asked(HeartbeatRequest)) >= said + 4)
            assert token not in script.tokens(HeartbeatRequest)[said:]

            said = script.tokens(HeartbeatRequest).count(token)
            script.answer("WaitMessages", started(), asyncio.Event())
            following = asyncio.create_task(take(handle.follow(), 1))
            await until(lambda: script.tokens(HeartbeatRequest).count(token) >= said + 2)
            following.cancel()
            await asyncio.wait([following])


@pytest.mark.slow
async def test_a_failed_end_session_ends_nothing(tmp_path: Path) -> None:
    async with scripted() as script, agent(script, tmp_path, heartbeats=True) as bus:
        await until(lambda: len(script.asked(HeartbeatRequest)) == 1)
        script.answer("EndSession", Failure(grpc.StatusCode.INTERNAL, "INTERNAL"))
        with pytest.raises(InternalError):
            await bus.end_session()
        said = len(script.asked(HeartbeatRequest))
        await until(lambda: len(script.asked(HeartbeatRequest)) > said)


@pytest.mark.parametrize("fails", [False, True])
async def test_a_follow_in_a_retry_pause_does_not_resume_an_ended_session(
    tmp_path: Path, fails: bool
) -> None:
    async with scripted() as script, asyncio.timeout(BOUND), agent(script, tmp_path) as bus:
        handle = await bus.join(THREAD)
        gone = Failure(grpc.StatusCode.UNAVAILABLE, "DRAINING", retry_delay=0.1)
        script.answer("WaitMessages", started(), gone)
        script.answer("WaitMessages", started(), batch(1))
        following = asyncio.ensure_future(anext(handle.follow(), None))
        await until(lambda: len(script.asked(WaitMessagesRequest)) == 1)
        if fails:
            script.answer("EndSession", Failure(grpc.StatusCode.INTERNAL, "INTERNAL"))
            with pytest.raises(InternalError):
                await bus.end_session()
            assert await following is not None
        else:
            await bus.end_session()
            assert await following is None
            assert len(script.asked(WaitMessagesRequest)) == 1


async def test_a_follow_started_while_a_session_ends_goes_on_in_the_next(
    tmp_path: Path,
) -> None:
    async with scripted() as script, asyncio.timeout(BOUND), agent(script, tmp_path) as bus:
        handle, said = await bus.join(THREAD), asyncio.Event()
        script.answer("EndSession", said, EndSessionResponse())
        script.answer("WaitMessages", started(), Failure(grpc.StatusCode.UNAVAILABLE, "DRAINING"))
        script.answer("WaitMessages", started(), batch(1))
        leaving = asyncio.create_task(bus.end_session())
        await until(lambda: len(script.asked(EndSessionRequest)) == 1)
        with pytest.raises(Unreachable):  # within its own timeout
            await handle.wait(timeout=0)
        following = asyncio.ensure_future(anext(handle.follow(), None))
        said.set()
        await leaving
        assert await following is not None


async def test_a_session_ends_after_the_waits_sent_before_it_are_open(
    tmp_path: Path,
) -> None:
    async with scripted() as script, asyncio.timeout(BOUND), agent(script, tmp_path) as bus:
        handle, opened = await bus.join(THREAD), asyncio.Event()
        over = ending(WaitEnding.REASON_SESSION_ENDED, upto=0)
        script.answer("WaitMessages", opened, started(), over)
        following = asyncio.ensure_future(anext(handle.follow(), None))
        await until(lambda: len(script.asked(WaitMessagesRequest)) == 1)
        leaving = asyncio.create_task(bus.end_session())
        for _ in range(3):
            await bus.server_info()  # then everything sent before has arrived
        assert not script.asked(EndSessionRequest)
        opened.set()
        await leaving
        assert script.asked(EndSessionRequest)
        assert await following is None


@pytest.mark.slow
async def test_ending_a_session_cancels_a_wait_that_the_server_does_not_open(
    tmp_path: Path,
) -> None:
    async with scripted() as script, asyncio.timeout(BOUND), agent(script, tmp_path) as bus:
        handle = await bus.join(THREAD)
        script.answer("WaitMessages", asyncio.Event())
        following = asyncio.ensure_future(anext(handle.follow(), None))
        await until(lambda: len(script.asked(WaitMessagesRequest)) == 1)
        await bus.end_session()
        assert await following is None
        assert len(script.asked(WaitMessagesRequest)) == 1


@pytest.mark.slow
async def test_ending_an_anonymous_session_ends_no_follow(
    start_server: StartServer, name: str
) -> None:
    server = start_server()
    async with asyncio.timeout(BOUND), BusClient(server.address) as bus:
        messages = (await bus.join(name)).follow(include_own=True)
        for content in ("one", "two"):
            await bus.thread(name).post(content)
            assert (await anext(messages)).content == content
            await bus.end_session()
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)


async def test_an_unregistered_agent_is_silent(tmp_path: Path) -> None:
    async with scripted() as script:
        async with agent(script, tmp_path) as bus:
            script.answer("UnregisterAgent", UnregisterAgentResponse())
            script.answer("WaitMessages", started(), batch(1, 2), asyncio.Event())
            assert await take(bus.thread(THREAD).follow(), 2) == ["1", "2"]
            await bus.unregister_agent()
            assert asked(script)[-2:] == ["Heartbeat", "UnregisterAgent"]
            assert script.asked(UnregisterAgentRequest) == [UnregisterAgentRequest()]
        assert asked(script)[-1] == "UnregisterAgent"


@pytest.mark.parametrize("kept", [True, False], ids=["by-name", "by-token"])
async def test_a_new_token_is_stored_and_used_at_once(tmp_path: Path, kept: bool) -> None:
    credentials = tmp_path / "credentials.json"
    async with scripted() as script:
        script.answer("GetServerInfo", GetServerInfoResponse(agent="worker"))
        bus = (
            agent(script, tmp_path)
            if kept
            else BusClient(script.address, token="o" * 43, credentials=credentials)
        )
        async with bus:
            script.answer("RotateToken", RotateTokenResponse(token=NEW_TOKEN))
            assert await bus.rotate_token(grace=1.5) == NEW_TOKEN
            assert script.asked(RotateTokenRequest) == [RotateTokenRequest(grace=seconds(1.5))]
            (old,) = script.tokens(RotateTokenRequest)
            assert old != NEW_TOKEN
            await bus.join(THREAD)
            assert script.tokens(JoinThreadRequest) == [NEW_TOKEN]
        # Also when it connects again.
        script.answer("GetServerInfo", GetServerInfoResponse(agent="worker"))
        async with bus:
            await bus.join(THREAD)
            assert script.tokens(JoinThreadRequest)[1] == NEW_TOKEN
        if kept:
            tokens = json.loads(credentials.read_text("utf-8"))
            assert tokens == {script.address: {"worker": NEW_TOKEN}}
        else:
            assert not credentials.exists()


async def test_a_new_token_that_cannot_be_stored_is_still_used(tmp_path: Path) -> None:
    async with scripted() as script, agent(script, tmp_path) as bus:
        (tmp_path / "credentials.json").write_text("{", "utf-8")
        script.answer("RotateToken", RotateTokenResponse(token=NEW_TOKEN))
        with pytest.raises(CredentialsError, match="not JSON"):
            await bus.rotate_token()
        await bus.join(THREAD)
        assert script.tokens(JoinThreadRequest) == [NEW_TOKEN]


@pytest.mark.parametrize("name", ["", "me"])
async def test_an_operators_calls_need_another_agents_name(name: str) -> None:
    async with scripted() as script, BusClient(script.address) as bus:
        own = name and bus.agent
        for call in (bus.reset_token(own), bus.kick(own)):
            with pytest.raises(InvalidArgument, match="another agent's name"):
                await call
