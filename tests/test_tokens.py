"""Tokens that operators create: what they permit, how they are listed, rotated and revoked."""

import itertools
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from tests.callers import (
    Caller,
    create_token,
    operator,
    register,
    with_token,
)
from tests.polling import until_known
from tests.refusals import refused
from tests.serving import AdminStub, AgentStub, BusStub, ServerProcess, ThreadStub
from threadbus.v1.admin_service_pb2 import (
    CreateTokenRequest,
    ListTokensRequest,
    RevokeTokenRequest,
    Token,
)
from threadbus.v1.admin_service_pb2_grpc import AdminServiceStub
from threadbus.v1.agent_pb2 import AGENT_KIND_AGENT
from threadbus.v1.agent_service_pb2 import (
    GetAgentRequest,
    RotateTokenRequest,
    UnregisterAgentRequest,
)
from threadbus.v1.bus_service_pb2 import GetServerInfoRequest, PostMessageRequest
from threadbus.v1.thread_service_pb2 import CreateThreadRequest

DAY = Duration(seconds=86_400)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, chosen_store: None) -> Iterator[ServerProcess]:
    """This module's server; tokens are required."""
    db = tmp_path_factory.mktemp("server") / "bus.db"
    with ServerProcess(db, "--auth", "required", "--checkpoint-interval", "0.05") as running:
        yield running


@pytest.fixture
def boss(server: ServerProcess) -> Caller:
    """The operator of this module's server."""
    return operator(server)


@pytest.fixture
def admin(channel: grpc.aio.Channel) -> AdminStub:
    """The stub of AdminService."""
    return AdminServiceStub(channel)


async def listed(admin: AdminStub, boss: Caller, agent: str = "", size: int = 0) -> list[Token]:
    """Returns the tokens that ListTokens lists, over all pages."""
    found: list[Token] = []
    request = ListTokensRequest(agent=agent, page_size=size)
    while True:
        answer = await admin.ListTokens(request, metadata=boss.metadata)
        found += answer.tokens
        request.page_token = answer.next_page_token
        if not request.page_token:
            return found
        assert len(answer.tokens) == size


async def test_a_created_token_authenticates_its_agent(
    channel: grpc.aio.Channel, bus: BusStub, agents: AgentStub, boss: Caller, name: str
) -> None:
    created = await create_token(channel, boss, name)
    token = created.token
    assert (token.agent, list(token.scopes)) == (name, ["post", "read"])
    assert not token.HasField("expire_time")
    assert not token.HasField("last_use_time")
    metadata = Caller(name, created.secret).metadata
    info = await bus.GetServerInfo(GetServerInfoRequest(), metadata=metadata)
    assert (info.agent, list(info.scopes)) == (name, ["post", "read"])
    assert not info.thread_prefixes
    assert not info.HasField("token_expire_time")
    agent = (await agents.GetAgent(GetAgentRequest(), metadata=metadata)).agent
    assert (agent.name, agent.kind) == (name, AGENT_KIND_AGENT)  # registered, as it was new


async def test_an_agent_keeps_its_other_tokens(
    channel: grpc.aio.Channel, bus: BusStub, agents: AgentStub, boss: Caller, name: str
) -> None:
    agent = await register(agents, name, boss)
    second = await with_token(channel, boss, name)
    for caller in (agent, second):
        info = await bus.GetServerInfo(GetServerInfoRequest(), metadata=caller.metadata)
        assert info.agent == name


async def test_an_unregistered_name_is_registered_again(
    channel: grpc.aio.Channel, agents: AgentStub, boss: Caller, name: str
) -> None:
    former = await register(agents, name, boss)
    await agents.UnregisterAgent(UnregisterAgentRequest(), metadata=former.metadata)
    caller = await with_token(channel, boss, name)
    found = await agents.GetAgent(GetAgentRequest(agent=name), metadata=caller.metadata)
    assert found.agent.name == name
    refusal = await refused(agents.GetAgent(GetAgentRequest(), metadata=former.metadata))
    assert refusal.reason == "TOKEN_INVALID"


async def test_tokens_are_listed_newest_first_without_their_secrets(
    channel: grpc.aio.Channel, admin: AdminStub, boss: Caller, name: str
) -> None:
    created = [
        await create_token(channel, boss, f"{name}-{n % 2}", scopes=["read"], lifetime=DAY)
        for n in range(5)
    ]
    everyone = await listed(admin, boss, size=2)
    ours = [token for token in everyone if token.agent.startswith(f"{name}-")]
    assert ours == [answer.token for answer in reversed(created)]
    assert await listed(admin, boss, f"{name}-1", 1) == [created[3].token, created[1].token]
    operators = await listed(admin, boss, "operator")
    assert operators
    assert {token.agent for token in operators} == {""}
    text = str(everyone)
    assert not any(answer.secret in text for answer in created)
    assert boss.token not in text


async def test_the_last_use_is_listed_to_the_minute(
    channel: grpc.aio.Channel, admin: AdminStub, bus: BusStub, boss: Caller, name: str
) -> None:
    caller = await with_token(channel, boss, name)
    info = await bus.GetServerInfo(GetServerInfoRequest(), metadata=caller.metadata)

    async def used() -> bool:
        (token,) = await listed(admin, boss, name)
        return token.HasField("last_use_time")

    await until_known(used)
    (token,) = await listed(admin, boss, name)
    assert token.last_use_time.ToMicroseconds() % 60_000_000 == 0
    assert abs(token.last_use_time.seconds - info.server_time.seconds) <= 60


async def test_a_revoked_token_is_invalid_and_no_longer_listed(
    channel: grpc.aio.Channel, admin: AdminStub, bus: BusStub, boss: Caller, name: str
) -> None:
    created = await create_token(channel, boss, name)
    kept = await with_token(channel, boss, name)
    caller = Caller(name, created.secret)
    await bus.GetServerInfo(GetServerInfoRequest(), metadata=caller.metadata)
    revocation = RevokeTokenRequest(token_id=created.token.token_id)
    await admin.RevokeToken(revocation, metadata=boss.metadata)
    refusal = await refused(bus.GetServerInfo(GetServerInfoRequest(), metadata=caller.metadata))
    assert refusal.reason == "TOKEN_INVALID"
    await bus.GetServerInfo(GetServerInfoRequest(), metadata=kept.metadata)
    assert len(await listed(admin, boss, name)) == 1
    refusal = await refused(admin.RevokeToken(revocation, metadata=boss.metadata))
    assert (refusal.reason, refusal.fields) == ("VALIDATION_FAILED", ["token_id"])


async def test_an_operator_cannot_revoke_the_token_that_it_calls_with(
    channel: grpc.aio.Channel, admin: AdminStub, bus: BusStub, boss: Caller
) -> None:
    created = await create_token(channel, boss, scopes=["admin"])
    other = Caller("operator", created.secret)
    revocation = RevokeTokenRequest(token_id=created.token.token_id)
    refusal = await refused(admin.RevokeToken(revocation, metadata=other.metadata))
    assert (refusal.reason, refusal.fields) == ("VALIDATION_FAILED", ["token_id"])
    assert "another token" in refusal.message
    await admin.RevokeToken(revocation, metadata=boss.metadata)
    call = bus.GetServerInfo(GetServerInfoRequest(), metadata=other.metadata)
    assert (await refused(call)).reason == "TOKEN_INVALID"


async def test_a_token_expires_with_its_lifetime(
    channel: grpc.aio.Channel, admin: AdminStub, bus: BusStub, boss: Caller, name: str
) -> None:
    lifetime = Duration(nanos=300_000_000)
    caller = await with_token(channel, boss, name, lifetime=lifetime)
    before_call = 0  # a server time before the token was checked

    async def expired() -> bool:
        nonlocal before_call
        try:
            info = await bus.GetServerInfo(GetServerInfoRequest(), metadata=caller.metadata)
        except grpc.aio.AioRpcError:
            return True
        assert info.token_expire_time.ToNanoseconds() > before_call
        before_call = info.server_time.ToNanoseconds()
        return False

    await until_known(expired)
    refusal = await refused(bus.GetServerInfo(GetServerInfoRequest(), metadata=caller.metadata))
    assert refusal.reason == "TOKEN_EXPIRED"
    assert await listed(admin, boss, name) == []


async def test_rotation_keeps_id_and_permissions_and_extends_nothing(
    channel: grpc.aio.Channel, admin: AdminStub, agents: AgentStub, boss: Caller, name: str
) -> None:
    kept = await create_token(channel, boss, name)
    old = await create_token(
        channel, boss, name, scopes=["read"], thread_prefixes=[name], lifetime=DAY
    )
    secrets = [old.secret]
    for grace in (60, 60, 0):  # also with a token that was rotated before: its response was lost
        caller = Caller(name, secrets[0])
        request = RotateTokenRequest(grace=Duration(seconds=grace))
        answer = await agents.RotateToken(request, metadata=caller.metadata)
        secrets.append(answer.token)
        mine, other = await listed(admin, boss, name)
        assert other == kept.token
        assert mine.create_time.ToNanoseconds() > old.token.create_time.ToNanoseconds()
        mine.create_time.CopyFrom(old.token.create_time)
        assert mine == old.token
    for secret in secrets[:-1]:
        ended = agents.GetAgent(GetAgentRequest(), metadata=Caller(name, secret).metadata)
        assert (await refused(ended)).reason in ("TOKEN_EXPIRED", "TOKEN_INVALID")
    for secret in (secrets[-1], kept.secret):
        await agents.GetAgent(GetAgentRequest(), metadata=Caller(name, secret).metadata)


async def test_an_operators_reset_ends_every_token_of_the_agent(
    channel: grpc.aio.Channel, admin: AdminStub, agents: AgentStub, boss: Caller, name: str
) -> None:
    before = [await with_token(channel, boss, name, scopes=["admin"]) for _ in range(2)]
    answer = await agents.RotateToken(RotateTokenRequest(agent=name), metadata=boss.metadata)
    for caller in before:
        call = agents.GetAgent(GetAgentRequest(), metadata=caller.metadata)
        assert (await refused(call)).reason == "TOKEN_EXPIRED"
    (token,) = await listed(admin, boss, name)
    assert list(token.scopes) == ["post", "read"]
    await agents.GetAgent(GetAgentRequest(), metadata=Caller(name, answer.token).metadata)


async def test_an_agent_with_the_scope_admin_acts_as_itself(
    channel: grpc.aio.Channel, admin: AdminStub, agents: AgentStub, boss: Caller, name: str
) -> None:
    scopes = ["admin", "read", "post"]
    caller = await with_token(channel, boss, name, scopes=scopes)
    assert (await agents.GetAgent(GetAgentRequest(), metadata=caller.metadata)).agent.name == name
    other = await create_token(channel, caller, f"{name}-other")
    assert other.token in await listed(admin, caller)
    answer = await agents.RotateToken(RotateTokenRequest(), metadata=caller.metadata)
    (token,) = await listed(admin, Caller(name, answer.token), name)
    assert list(token.scopes) == ["post", "read", "admin"]
    call = admin.ListTokens(ListTokensRequest(), metadata=caller.metadata)
    assert (await refused(call)).reason == "TOKEN_EXPIRED"


async def test_an_operators_token_can_be_limited(
    channel: grpc.aio.Channel, bus: BusStub, threads: ThreadStub, boss: Caller, name: str
) -> None:
    await threads.CreateThread(CreateThreadRequest(thread=name), metadata=boss.metadata)
    reader = await with_token(channel, boss, scopes=["read"])
    info = await bus.GetServerInfo(GetServerInfoRequest(), metadata=reader.metadata)
    assert (info.agent, list(info.scopes)) == ("operator", ["read"])
    post = PostMessageRequest(thread=name, content="x")
    refusal = await refused(bus.PostMessage(post, metadata=reader.metadata))
    assert (refusal.reason, "`post`" in refusal.message) == ("ACCESS_DENIED", True)
    refusal = await refused(create_token(channel, reader, name))
    assert refusal.reason == "ACCESS_DENIED"


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"agent": "Upper"}, "agent"),
    ({"agent": "operator"}, "agent"),
    ({"agent": "anonymous"}, "agent"),
    ({"agent": "x" * 64}, "agent"),
    ({"scopes": ["read", "write"]}, "scopes[1]"),
    ({"scopes": [""]}, "scopes[0]"),
    ({"scopes": ["read"] * 101}, "scopes"),
    ({"thread_prefixes": ["a", ""]}, "thread_prefixes[1]"),
    ({"thread_prefixes": ["a b"]}, "thread_prefixes[0]"),
    ({"thread_prefixes": ["x" * 129]}, "thread_prefixes[0]"),
    ({"thread_prefixes": ["team-a", "team"]}, "thread_prefixes[0]"),
    ({"thread_prefixes": ["same", "same"]}, "thread_prefixes[0]"),
    ({"thread_prefixes": [f"{n:02}" for n in range(21)]}, "thread_prefixes"),
    ({"thread_prefixes": ["a"], "scopes": ["admin"]}, "thread_prefixes"),
    ({"lifetime": Duration()}, "lifetime"),
    ({"lifetime": Duration(seconds=-1)}, "lifetime"),
    ({"lifetime": Duration(seconds=3651 * 86_400)}, "lifetime"),
]


@pytest.mark.parametrize(("fields", "named"), WRONG, ids=lambda value: str(value)[:40])
async def test_a_token_that_makes_no_sense_is_refused(
    channel: grpc.aio.Channel,
    admin: AdminStub,
    boss: Caller,
    fields: dict[str, Any],
    named: str,
) -> None:
    before = await listed(admin, boss)
    request = CreateTokenRequest(**fields)
    refusal = await refused(admin.CreateToken(request, metadata=boss.metadata))
    assert (refusal.reason, refusal.fields) == ("VALIDATION_FAILED", [named])
    tokens = await listed(admin, boss)
    assert [token.token_id for token in tokens] == [token.token_id for token in before]


@pytest.mark.parametrize("token_id", ["", "x", "0" * 15, "G" * 16, "0" * 17, "\0" * 16])
async def test_an_id_that_no_token_can_have_is_refused(
    admin: AdminStub, boss: Caller, token_id: str
) -> None:
    request = RevokeTokenRequest(token_id=token_id)
    refusal = await refused(admin.RevokeToken(request, metadata=boss.metadata))
    assert (refusal.reason, refusal.fields) == ("VALIDATION_FAILED", ["token_id"])


@pytest.mark.parametrize("page_token", ["x", "1-2", f"{'9' * 19}-{'0' * 16}", "-1-" + "0" * 16])
async def test_a_page_token_that_the_server_did_not_make_is_refused(
    admin: AdminStub, boss: Caller, page_token: str
) -> None:
    request = ListTokensRequest(page_token=page_token)
    refusal = await refused(admin.ListTokens(request, metadata=boss.metadata))
    assert (refusal.reason, refusal.fields) == ("VALIDATION_FAILED", ["page_token"])


async def test_the_order_of_scopes_does_not_matter(
    channel: grpc.aio.Channel, boss: Caller, name: str
) -> None:
    for scopes in itertools.permutations(("admin", "read", "post", "read")):
        created = await create_token(channel, boss, name, scopes=scopes)
        assert list(created.token.scopes) == ["post", "read", "admin"]


async def test_an_agent_with_the_scope_admin_resets_its_own_tokens(
    channel: grpc.aio.Channel, admin: AdminStub, agents: AgentStub, boss: Caller, name: str
) -> None:
    chief = await with_token(channel, boss, name, scopes=["admin"])
    other = await with_token(channel, boss, name)
    await agents.RotateToken(RotateTokenRequest(agent=name), metadata=chief.metadata)
    for caller in (chief, other):
        call = agents.GetAgent(GetAgentRequest(), metadata=caller.metadata)
        assert (await refused(call)).reason == "TOKEN_EXPIRED"
    (token,) = await listed(admin, boss, name)
    assert list(token.scopes) == ["post", "read"]


async def test_an_operator_registers_an_agent_whose_tokens_expired_again(
    channel: grpc.aio.Channel, admin: AdminStub, agents: AgentStub, boss: Caller, name: str
) -> None:
    await create_token(channel, boss, name, lifetime=Duration(nanos=1_000_000))

    async def expired() -> bool:
        return not await listed(admin, boss, name)

    await until_known(expired)
    agent = await register(agents, name, boss)
    await agents.GetAgent(GetAgentRequest(), metadata=agent.metadata)


@pytest.mark.parametrize("how", ["revoked", "expired"])
async def test_a_call_whose_request_arrives_late_is_refused(
    channel: grpc.aio.Channel, admin: AdminStub, boss: Caller, name: str, how: str
) -> None:
    lifetime = {"lifetime": Duration(nanos=400_000_000)} if how == "expired" else {}
    created = await create_token(channel, boss, name, scopes=["admin"], **lifetime)
    open_call: Any = channel.stream_unary("/threadbus.v1.AdminService/CreateToken")
    call = open_call(metadata=Caller(name, created.secret).metadata)

    async def used() -> bool:
        found = await listed(admin, boss, name)
        return not found or found[0].HasField("last_use_time")

    async def gone() -> bool:
        return not await listed(admin, boss, name)

    await until_known(used)
    if how == "revoked":
        request = RevokeTokenRequest(token_id=created.token.token_id)
        await admin.RevokeToken(request, metadata=boss.metadata)
    await until_known(gone)
    await call.write(CreateTokenRequest(agent=name, scopes=["admin"]).SerializeToString())
    await call.done_writing()
    assert (await refused(call)).reason == f"TOKEN_{'INVALID' if how == 'revoked' else 'EXPIRED'}"
    assert await listed(admin, boss, name) == []
