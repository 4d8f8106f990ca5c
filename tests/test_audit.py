"""The audit log: a line for each event, and no secrets and no content in it."""

import contextlib
import json
import os
import re
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from tests.callers import Caller, create_token, operator, register
from tests.conftest import StartServer
from tests.connections import connected
from tests.polling import until
from tests.post_stream import post_stream
from tests.refusals import refused
from tests.refused_start import refused_start
from tests.rpcs import send
from tests.serving import AdminStub, ServerProcess
from threadbus.v1.admin_service_pb2 import ListTokensRequest, ListWaitsRequest, RevokeTokenRequest
from threadbus.v1.admin_service_pb2_grpc import AdminServiceStub
from threadbus.v1.agent_pb2 import AGENT_KIND_AGENT, AGENT_KIND_HUMAN
from threadbus.v1.agent_service_pb2 import (
    EndSessionRequest,
    GetAgentRequest,
    RotateTokenRequest,
    UnregisterAgentRequest,
    UpdateAgentRequest,
)
from threadbus.v1.bus_service_pb2 import PostMessageRequest
from threadbus.v1.thread_pb2 import THREAD_STATE_CLOSED
from threadbus.v1.thread_service_pb2 import (
    CreateThreadRequest,
    DeleteThreadRequest,
    ListThreadsRequest,
    SetThreadStateRequest,
    UpdateThreadRequest,
)

PAGE = Path(__file__).parents[1] / "docs/security.md"
#: Content that must not be logged.
SECRET = "hush-hush"  # noqa: S105 - no password


def logged(server: ServerProcess) -> list[dict[str, Any]]:
    """Returns the events in a server's log."""
    return [
        json.loads(line.partition(" threadbus.audit: ")[2])
        for line in server.log
        if " threadbus.audit: " in line
    ]


def written(path: Path) -> list[dict[str, Any]]:
    """Returns the events in a file."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


async def cause_every_event(server: ServerProcess) -> list[str]:
    """Returns every token that was used."""
    boss = operator(server)
    async with connected(server.address) as client:
        channel, agents, bus, threads = client.channel, client.agents, client.bus, client.threads
        admin: AdminStub = AdminServiceStub(channel)
        settings = {"display_name": SECRET, "description": SECRET, "labels": {"x": SECRET}}
        ann = await register(agents, "ann", boss, AGENT_KIND_AGENT, **settings)
        bob = await register(agents, "bob", boss, AGENT_KIND_HUMAN)
        made = await create_token(channel, boss, "cat", thread_prefixes=["t"])
        rotated = await agents.RotateToken(RotateTokenRequest(), metadata=ann.metadata)
        reset = await agents.RotateToken(RotateTokenRequest(agent="bob"), metadata=boss.metadata)
        ann, old_ann = Caller("ann", rotated.token), ann
        await threads.CreateThread(
            CreateThreadRequest(thread="t", topic=SECRET, labels={"x": SECRET}),
            metadata=ann.metadata,
        )
        post = PostMessageRequest(
            thread="t", content=SECRET, labels={"x": SECRET}, on_behalf_of="ann"
        )
        await bus.PostMessage(post, metadata=boss.metadata)
        async with post_stream(bus, metadata=boss.metadata) as stream:
            await stream.post(post, post)
        for request in (
            UpdateAgentRequest(
                agent="ann", description=SECRET, update_mask=FieldMask(paths=["description"])
            ),
            UpdateThreadRequest(thread="t", topic=SECRET, update_mask=FieldMask(paths=["topic"])),
            SetThreadStateRequest(thread="t", state=THREAD_STATE_CLOSED),
            EndSessionRequest(agent="ann"),
            RevokeTokenRequest(token_id=made.token.token_id),
            DeleteThreadRequest(thread="t"),
            UnregisterAgentRequest(agent="ann"),
        ):
            answer: Any = send(channel, request, boss.metadata)
            await answer
        unknown = Caller("nobody", "x" * 43)
        bob_now = Caller("bob", reset.token)
        for caller, call in (
            (unknown, agents.GetAgent(GetAgentRequest(), metadata=unknown.metadata)),
            (bob_now, admin.ListTokens(ListTokensRequest(), metadata=bob_now.metadata)),
            (bob, agents.GetAgent(GetAgentRequest(), metadata=bob.metadata)),
        ):
            assert (await refused(call)).reason, caller
        async with post_stream(bus, metadata=bob_now.metadata) as stream:
            (result,) = await stream.post(post)
            assert result.status.code == grpc.StatusCode.PERMISSION_DENIED.value[0]
        callers = (boss, ann, old_ann, bob, bob_now, unknown)
        return [*(caller.token for caller in callers), made.secret]


async def test_every_event_has_a_line_and_no_line_a_secret(
    start_server: StartServer, tmp_path: Path
) -> None:
    server = start_server("--auth", "required", "--log-level", "info")
    tokens = await cause_every_event(server)
    assert server.stop() == 0
    lines = logged(server)
    events = [(line["event"], line["agent"]) for line in lines if line["event"] != "refused"]
    assert events == [
        ("server_started", ""),
        *(("agent_registered", "operator") for _ in range(2)),
        ("token_created", "operator"),
        ("token_rotated", "ann"),
        ("tokens_reset", "operator"),
        *(("posted_on_behalf", "operator") for _ in range(2)),
        ("agent_updated", "operator"),
        ("thread_updated", "operator"),
        ("thread_state_set", "operator"),
        ("session_ended", "operator"),
        ("token_revoked", "operator"),
        ("thread_deleted", "operator"),
        ("agent_unregistered", "operator"),
    ]
    # A refusal is logged after its caller has it, so that the next one may come first.
    refusals = [(line["agent"], line["reason"]) for line in lines if line["event"] == "refused"]
    assert sorted(refusals) == [
        *(("", reason) for reason in ("TOKEN_EXPIRED", "TOKEN_INVALID")),
        *(("bob", "ACCESS_DENIED") for _ in range(2)),
    ]
    text = "".join(server.log)
    assert not [secret for secret in (*tokens, SECRET) if secret in text]
    documented = set(re.findall(r"^\| `([a-z_]+)` \|", PAGE.read_text("utf-8"), re.MULTILINE))
    assert {line["event"] for line in lines} | {"omitted"} == documented


async def test_a_file_gets_the_lines_instead_of_the_log(
    start_server: StartServer, tmp_path: Path
) -> None:
    path = tmp_path / "audit.jsonl"
    server = start_server("--auth", "required", "--audit-log", str(path))
    tokens = await cause_every_event(server)
    first = written(path)
    assert [line["event"] for line in first][:2] == ["server_started", "agent_registered"]
    assert all(re.fullmatch(r"20\d\d-\d\d-\d\dT[\d:]{8}\.\d{6}Z", line["time"]) for line in first)
    assert path.stat().st_mode & 0o777 == 0o600
    text = path.read_text("utf-8")
    assert not [secret for secret in (*tokens, SECRET) if secret in text]
    path.rename(tmp_path / "audit.1")  # as log rotation does
    async with connected(server.address) as client:
        await register(client.agents, "dan", operator(server))
    assert [line["about"] for line in written(path)] == ["dan"]
    assert server.stop() == 0
    assert logged(server) == []
    server.start()
    assert [line["event"] for line in written(path)] == ["agent_registered", "server_started"]


async def test_a_file_that_cannot_be_written_stops_nothing(
    start_server: StartServer, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    server = start_server("--audit-log", str(folder / "audit.jsonl"))
    (folder / "audit.jsonl").unlink()
    folder.rmdir()
    async with connected(server.address) as client:
        for name in ("ann", "bob"):
            await register(client.agents, name)
    await until(lambda: bool(server.problems))
    assert server.stop() == 0
    assert [line for line in server.log if "cannot write the audit log" in line][1:] == []


@pytest.mark.parametrize("what", ["folder", "pipe", "missing/audit.jsonl"])
def test_a_file_that_cannot_be_one_is_refused_at_the_start(tmp_path: Path, what: str) -> None:
    path = tmp_path / what
    if what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    line = refused_start(tmp_path / "bus.db", "--audit-log", str(path))
    assert f"cannot write --audit-log {path}: " in line


async def test_callers_cannot_fill_the_log(start_server: StartServer) -> None:
    server = start_server("--auth", "required")
    async with connected(server.address) as client:
        boss = operator(server)
        ann = await register(client.agents, "ann", boss)
        admin: AdminStub = AdminServiceStub(client.channel)
        for _ in range(50):
            await refused(admin.ListTokens(ListTokensRequest(), metadata=ann.metadata))
        await refused(admin.ListWaits(ListWaitsRequest(), metadata=ann.metadata))
        await register(client.agents, "bob", boss)
        await refused(client.agents.GetAgent(GetAgentRequest()))
    assert server.stop() == 0
    lines = logged(server)[2:]
    assert [line["event"] for line in lines] == [
        *("refused" for _ in range(31)),  # also that of another method
        "agent_registered",
        "refused",
        "omitted",
    ]
    last = lines[-1]
    assert (last["agent"], last["of"], last["method"]) == ("ann", "refused", "ListTokens")
    assert last["count"] == 20


async def test_an_event_is_logged_though_its_client_does_not_wait(
    start_server: StartServer,
) -> None:
    server = start_server("--log-level", "error")
    async with connected(server.address) as client:
        ann = await register(client.agents, "ann")
        for n in range(20):
            thread = f"t-{n}"
            await client.threads.CreateThread(
                CreateThreadRequest(thread=thread), metadata=ann.metadata
            )
            request = DeleteThreadRequest(thread=thread)
            call = client.threads.DeleteThread(
                request, metadata=ann.metadata, timeout=0.0005 * (n + 1)
            )
            with contextlib.suppress(grpc.aio.AioRpcError):
                await call
        listed = await client.threads.ListThreads(ListThreadsRequest(page_size=100))
        left = {thread.name for thread in listed.threads}
    assert server.stop() == 0
    deleted = {line["thread"] for line in logged(server) if line["event"] == "thread_deleted"}
    assert deleted == {f"t-{n}" for n in range(20)} - left


async def test_a_pipe_in_place_of_the_file_stops_nothing(
    start_server: StartServer, tmp_path: Path
) -> None:
    path = tmp_path / "audit.jsonl"
    server = start_server("--audit-log", str(path))
    path.unlink()
    os.mkfifo(path)
    async with connected(server.address) as client:
        await register(client.agents, "ann")
    await until(lambda: bool(server.problems))
    assert "cannot write the audit log" in server.problems[0]
    assert server.stop() == 0
