"""A client whose token is refused: it goes on with a newer one, or registers again, if it can."""

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Literal

import grpc
import pytest
from google.protobuf.message import Message as AnyMessage

from bus_client import (
    AgentExists,
    BusClient,
    BusError,
    CursorLost,
    OutcomeUnknown,
    ThreadHandle,
    TokenExpired,
    Unauthenticated,
)
from tests.callers import register
from tests.conftest import StartServer
from tests.members import member, take
from tests.polling import until
from tests.script import (
    THREAD,
    Failure,
    Script,
    asked_from,
    batch,
    last_batch,
    scripted,
    started,
)
from tests.serving import ServerProcess
from tests.wait_frames import BOUND
from threadbus.v1.agent_service_pb2 import (
    RegisterAgentRequest,
    RotateTokenRequest,
    RotateTokenResponse,
)
from threadbus.v1.agent_service_pb2_grpc import AgentServiceStub
from threadbus.v1.bus_service_pb2 import (
    GetServerInfoResponse,
    HeartbeatRequest,
    PostMessageRequest,
    PostMessageResponse,
    WaitMessagesRequest,
)

UNKNOWN = Failure(grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID")
EXPIRED = Failure(grpc.StatusCode.UNAUTHENTICATED, "TOKEN_EXPIRED")
REFUSALS = {"unknown": UNKNOWN, "expired": EXPIRED}
TAKEN = Failure(grpc.StatusCode.ALREADY_EXISTS, "AGENT_EXISTS")
BROKEN = Failure(grpc.StatusCode.UNAVAILABLE)
DRAINING = Failure(grpc.StatusCode.UNAVAILABLE, "DRAINING")
POSTED = PostMessageResponse(seq=1)


@contextlib.asynccontextmanager
async def agent(
    script: Script, home: Path, *, heartbeats: bool = False
) -> AsyncIterator[BusClient]:
    """A client of the scripted server, registered by its name, with a time limit."""
    client = BusClient(
        script.address, agent="worker", credentials=home / "c.json", heartbeats=heartbeats
    )
    async with asyncio.timeout(BOUND), client as bus:
        yield bus


async def restart_with_new_store(server: ServerProcess, db: Path) -> None:
    """Restart the server on another database."""
    server.kill()
    server.db = db
    await asyncio.to_thread(server.start)


@pytest.mark.slow
@pytest.mark.parametrize("on_resync", ["raise", "continue"])
async def test_a_follower_gets_an_error_when_the_store_was_recreated(
    start_server: StartServer, tmp_path: Path, name: str, on_resync: Literal["raise", "continue"]
) -> None:
    new = start_server(db=tmp_path / "new.db")
    async with BusClient(new.address) as client:
        await (await client.join(name)).post("new")
    assert new.stop() == 0
    server = start_server(db=tmp_path / "old.db")
    async with member(server.address, name, tmp_path) as reader, asyncio.timeout(BOUND):
        messages = reader.follow(on_resync=on_resync, include_own=True)
        await reader.post("old")
        assert await take(messages, 1) == ["old"]
        coming = asyncio.create_task(take(messages, 1))
        await restart_with_new_store(server, new.db)
        if on_resync == "raise":
            with pytest.raises(CursorLost) as error:
                await coming
            assert error.value.reason == "EPOCH_CHANGED"
            coming = asyncio.create_task(take(reader.follow(), 1))
        assert await coming == ["new"]
        # It is the same agent.
        await reader.post("mine")
        assert (await reader.message(2)).sender == f"{name}-reader"


@pytest.mark.slow
async def test_an_agent_whose_name_was_taken_gets_an_error(
    start_server: StartServer, tmp_path: Path, name: str
) -> None:
    new = start_server(db=tmp_path / "new.db")
    async with grpc.aio.insecure_channel(new.address) as channel:
        await register(AgentServiceStub(channel), f"{name}-reader")
    assert new.stop() == 0
    server = start_server(db=tmp_path / "old.db")
    async with member(server.address, name, tmp_path) as reader, asyncio.timeout(BOUND):
        coming = asyncio.create_task(take(reader.follow(), 1))
        await restart_with_new_store(server, new.db)
        with pytest.raises(AgentExists, match="another token"):
            await coming
        with pytest.raises(AgentExists):
            await reader.post("x")


async def test_a_call_is_retried_once_the_agent_is_registered_again(tmp_path: Path) -> None:
    async with scripted() as script, agent(script, tmp_path) as bus:
        script.answer("PostMessage", UNKNOWN)
        script.answer("PostMessage", POSTED)
        assert (await bus.thread(THREAD).post("x")).seq == 1
        assert script.asked(RegisterAgentRequest)[0] == script.asked(RegisterAgentRequest)[1]
        first, second = script.asked(PostMessageRequest)
        assert first == second
        # Registering sends no token, in particular not the unknown one.
        assert script.tokens(RegisterAgentRequest) == ["", ""]
        assert script.tokens(PostMessageRequest)[0] == script.tokens(PostMessageRequest)[1] != ""


async def test_many_calls_that_fail_at_once_register_the_agent_once(tmp_path: Path) -> None:
    async with scripted() as script, agent(script, tmp_path) as bus:
        gate = asyncio.Event()
        for _ in range(20):
            script.answer("PostMessage", gate, UNKNOWN)
        for _ in range(20):
            script.answer("PostMessage", POSTED)
        posts = [asyncio.create_task(bus.thread(THREAD).post("x")) for _ in range(20)]
        await until(lambda: len(script.asked(PostMessageRequest)) == 20)
        gate.set()
        await asyncio.gather(*posts)
        assert len(script.asked(RegisterAgentRequest)) == 2


async def test_registering_again_is_tried_once_per_call(tmp_path: Path) -> None:
    async with scripted() as script, agent(script, tmp_path) as bus:
        for _ in range(2):
            for _ in range(2):
                script.answer("PostMessage", UNKNOWN)
            with pytest.raises(Unauthenticated):
                await bus.thread(THREAD).post("x")
        assert len(script.asked(PostMessageRequest)) == 4
        assert len(script.asked(RegisterAgentRequest)) == 3


async def test_registering_again_is_tried_once_per_disconnect_of_a_wait(tmp_path: Path) -> None:
    async with scripted() as script, agent(script, tmp_path) as bus:
        messages = bus.thread(THREAD).follow()
        script.answer("WaitMessages", UNKNOWN)
        script.answer("WaitMessages", started(), batch(1), UNKNOWN)
        script.answer("WaitMessages", started(), batch(2), UNKNOWN)
        script.answer("WaitMessages", UNKNOWN)
        assert await take(messages, 2) == ["1", "2"]
        with pytest.raises(Unauthenticated):
            await anext(messages)
        assert asked_from(script) == [0, 0, 1, 2]
        assert len(script.asked(RegisterAgentRequest)) == 4


async def test_a_follower_waits_for_a_server_that_is_away_when_it_registers(
    tmp_path: Path,
) -> None:
    async with scripted() as script, agent(script, tmp_path) as bus:
        script.answer("WaitMessages", UNKNOWN)
        script.answer("RegisterAgent", Failure(grpc.StatusCode.INTERNAL, "INTERNAL"))
        script.answer("WaitMessages", *last_batch(1))
        assert await take(bus.thread(THREAD).follow(), 1) == ["1"]
        assert len(script.asked(RegisterAgentRequest)) == 3


@pytest.mark.parametrize(
    ("failure", "expected"),
    [(TAKEN, AgentExists), (UNKNOWN, Unauthenticated)],
    ids=["taken", "required"],
)
async def test_an_agent_that_cannot_be_registered_again_gets_the_reason(
    tmp_path: Path, failure: Failure, expected: type[BusError]
) -> None:
    calls: dict[str, Callable[[ThreadHandle], Awaitable[object]]] = {
        "PostMessage": lambda handle: handle.post("x"),
        "WaitMessages": lambda handle: anext(handle.follow()),
    }
    async with scripted() as script, agent(script, tmp_path) as bus:
        for rpc, call in calls.items():
            script.answer(rpc, UNKNOWN)
            for _ in range(1 if failure is TAKEN else 2):  # and with its own token
                script.answer("RegisterAgent", failure)
            with pytest.raises(expected):
                await call(bus.thread(THREAD))


@pytest.mark.parametrize("content", [None, "{}", ""], ids=["same-token", "no-token", "no-file"])
async def test_an_expired_token_without_a_newer_one_causes_no_registration(
    tmp_path: Path, content: str | None
) -> None:
    async with scripted() as script, agent(script, tmp_path) as bus:
        credentials = tmp_path / "c.json"
        if content:
            credentials.write_text(content, "utf-8")
        elif content is not None:
            credentials.unlink()
        before = credentials.exists() and credentials.read_bytes()
        script.answer("PostMessage", EXPIRED)
        with pytest.raises(TokenExpired):
            await bus.thread(THREAD).post("x")
        script.answer("WaitMessages", EXPIRED)
        with pytest.raises(TokenExpired):
            await anext(bus.thread(THREAD).follow())
        script.answer("RotateToken", EXPIRED)
        with pytest.raises(TokenExpired):
            await bus.rotate_token()
        assert len(script.asked(RegisterAgentRequest)) == 1
        assert (credentials.exists() and credentials.read_bytes()) == before


async def test_a_token_given_to_the_client_is_not_replaced(tmp_path: Path) -> None:
    async with scripted() as script, asyncio.timeout(BOUND):
        script.answer("GetServerInfo", GetServerInfoResponse(agent="worker"))
        async with BusClient(script.address, token="o" * 43) as bus:
            script.answer("PostMessage", UNKNOWN)
            with pytest.raises(Unauthenticated):
                await bus.thread(THREAD).post("x")
            script.answer("WaitMessages", UNKNOWN)
            with pytest.raises(Unauthenticated):
                await anext(bus.thread(THREAD).follow())
        assert script.asked(RegisterAgentRequest) == []


async def until_sent(script: Script, request_type: type[AnyMessage], count: int) -> None:
    """Return once the server was asked so often."""
    await until(lambda: len(script.asked(request_type)) == count)


async def rotate(script: Script, bus: BusClient, token: str) -> None:
    """Give the agent this token."""
    script.answer("RotateToken", RotateTokenResponse(token=token))
    await bus.rotate_token()


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("given", [None, "o" * 43], ids=["by-name", "by-token"])
async def test_a_wait_that_ends_with_its_token_is_reopened_with_the_new_one(
    tmp_path: Path, given: str | None, refusal: str
) -> None:
    async with scripted() as script, asyncio.timeout(BOUND):
        script.answer("GetServerInfo", GetServerInfoResponse(agent="worker"))
        client = BusClient(
            script.address,
            agent="worker",
            token=given,
            credentials=tmp_path / "c.json",
            heartbeats=False,
        )
        async with client as bus:
            end = asyncio.Event()
            script.answer("WaitMessages", started(), batch(1), end, REFUSALS[refusal])
            script.answer("WaitMessages", *last_batch(2))
            messages = bus.thread(THREAD).follow()
            assert await take(messages, 1) == ["1"]
            await rotate(script, bus, "n" * 43)
            end.set()
            assert await take(messages, 1) == ["2"]
            assert script.tokens(WaitMessagesRequest)[1] == "n" * 43
            assert asked_from(script) == [0, 1]
            assert len(script.asked(RegisterAgentRequest)) == (given is None)


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_a_token_rotated_by_another_process_is_read_from_the_file(
    tmp_path: Path, refusal: str
) -> None:
    async with scripted() as script, agent(script, tmp_path) as bus:
        async with agent(script, tmp_path) as other:
            await rotate(script, other, "n" * 43)
        script.answer("PostMessage", REFUSALS[refusal])
        script.answer("PostMessage", POSTED)
        await bus.thread(THREAD).post("x")
        assert script.tokens(PostMessageRequest)[1] == "n" * 43
        kept = json.loads((tmp_path / "c.json").read_text("utf-8"))
        assert kept == {script.address: {"worker": "n" * 43}}


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_a_wait_goes_on_with_a_token_rotated_by_another_process(
    tmp_path: Path, refusal: str
) -> None:
    async with scripted() as script, agent(script, tmp_path) as bus:
        end = asyncio.Event()
        script.answer("WaitMessages", started(), batch(1), end, REFUSALS[refusal])
        script.answer("WaitMessages", *last_batch(2))
        messages = bus.thread(THREAD).follow()
        assert await take(messages, 1) == ["1"]
        async with agent(script, tmp_path) as other:
            await rotate(script, other, "n" * 43)
        end.set()
        assert await take(messages, 1) == ["2"]
        assert script.tokens(WaitMessagesRequest)[1] == "n" * 43
        assert asked_from(script) == [0, 1]


async def test_a_rotation_replaces_a_token_rotated_by_another_process(tmp_path: Path) -> None:
    async with scripted() as script, agent(script, tmp_path) as bus:
        async with agent(script, tmp_path) as other:
            await rotate(script, other, "n" * 43)
        script.answer("RotateToken", EXPIRED)
        await rotate(script, bus, "m" * 43)
        assert script.tokens(RotateTokenRequest)[2] == "n" * 43


@pytest.mark.parametrize("rpc", ["PostMessage", "WaitMessages"])
async def test_a_call_is_repeated_as_often_as_its_token_was_replaced(
    tmp_path: Path, rpc: str
) -> None:
    posts = rpc == "PostMessage"
    sent = PostMessageRequest if posts else WaitMessagesRequest
    async with scripted() as script, agent(script, tmp_path) as bus:
        tokens = [letter * 43 for letter in "abc"]
        rotated = [asyncio.Event() for _ in tokens]
        for event in rotated:
            script.answer(rpc, event, EXPIRED)
        script.answer(rpc, *([POSTED] if posts else last_batch(1)))
        handle = bus.thread(THREAD)
        calling = asyncio.ensure_future(handle.post("x") if posts else anext(handle.follow()))
        for count, (token, event) in enumerate(zip(tokens, rotated, strict=True), 1):
            await until_sent(script, sent, count)
            await rotate(script, bus, token)
            event.set()
        await calling
        assert script.tokens(sent)[1:] == tokens


async def test_a_rotation_with_an_unknown_token_registers_the_agent_again(tmp_path: Path) -> None:
    async with scripted() as script, agent(script, tmp_path) as bus:
        script.answer("RotateToken", UNKNOWN)
        await rotate(script, bus, "n" * 43)
        assert len(script.asked(RegisterAgentRequest)) == 2


async def test_calls_refused_during_a_rotation_wait_for_the_new_token(
    tmp_path: Path,
) -> None:
    async with scripted() as script, agent(script, tmp_path) as bus:
        gate = asyncio.Event()
        script.answer("RotateToken", gate, RotateTokenResponse(token="n" * 43))
        rotating = asyncio.create_task(bus.rotate_token(grace=0))
        script.answer("PostMessage", UNKNOWN)
        script.answer("PostMessage", POSTED)
        posting = asyncio.create_task(bus.thread(THREAD).post("x"))
        await until(lambda: len(script.asked(PostMessageRequest)) == 1)
        gate.set()
        await asyncio.gather(rotating, posting)
        assert script.tokens(PostMessageRequest)[1] == "n" * 43
        assert len(script.asked(RegisterAgentRequest)) == 1


@pytest.mark.slow
async def test_heartbeats_continue_though_the_credentials_are_damaged(tmp_path: Path) -> None:
    async with scripted() as script, agent(script, tmp_path, heartbeats=True):
        (tmp_path / "c.json").write_text("{", "utf-8")
        script.answer("Heartbeat", UNKNOWN)
        await until(lambda: len(script.asked(HeartbeatRequest)) >= 2)


@pytest.mark.slow
async def test_an_idle_agent_is_registered_again_by_its_heartbeats(
    tmp_path: Path,
) -> None:
    async with scripted() as script:
        script.answer("Heartbeat", UNKNOWN)
        async with agent(script, tmp_path, heartbeats=True):
            await until(lambda: len(script.asked(HeartbeatRequest)) >= 2)
            assert len(script.asked(RegisterAgentRequest)) == 2


async def test_an_unknown_outcome_stays_unknown_though_the_agent_is_registered_again(
    tmp_path: Path,
) -> None:
    async with scripted() as script, agent(script, tmp_path) as bus:
        script.answer("PostMessage", BROKEN)
        script.answer("PostMessage", UNKNOWN)
        script.answer("PostMessage", dataclasses.replace(DRAINING, retry_delay=1_000.0))
        with pytest.raises(OutcomeUnknown):
            await bus.thread(THREAD).post("x")
        assert len(script.asked(PostMessageRequest)) == 3


async def test_posts_stay_unknown_though_the_agent_cannot_be_registered_again(
    tmp_path: Path,
) -> None:
    async with scripted() as script, agent(script, tmp_path) as bus:
        script.answer("PostMessages", BROKEN)
        script.answer("PostMessages", UNKNOWN)
        script.answer("RegisterAgent", TAKEN)
        with pytest.raises(OutcomeUnknown):
            await anext(aiter(bus.thread(THREAD).post_many(["x"])))
