"""Who may call what: every call by every kind of caller, compared to the table in the docs."""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import ErrorInfo

from bus_server.permissions import RULES
from tests.callers import Caller, create_token, operator, register, with_token
from tests.connections import connected
from tests.refusals import read, refused
from tests.rpcs import RPCS, Rpc, good_request, send
from tests.serving import AgentStub, BusStub, ServerProcess, ThreadStub
from threadbus.v1.admin_service_pb2 import RevokeTokenRequest
from threadbus.v1.agent_pb2 import AGENT_KIND_HUMAN
from threadbus.v1.agent_service_pb2 import (
    EndSessionRequest,
    RegisterAgentRequest,
    RotateTokenRequest,
    UnregisterAgentRequest,
    UpdateAgentRequest,
)
from threadbus.v1.bus_service_pb2 import (
    GetServerInfoRequest,
    PostMessageRequest,
    PostMessagesRequest,
    PostMessagesResponse,
    WithdrawRequestRequest,
)
from threadbus.v1.message_pb2 import ExpectReply
from threadbus.v1.thread_pb2 import THREAD_STATE_CLOSED
from threadbus.v1.thread_service_pb2 import (
    CreateThreadRequest,
    DeleteThreadRequest,
    GetThreadRequest,
    JoinThreadRequest,
    SetThreadStateRequest,
    UpdateThreadRequest,
)

PAGE = Path(__file__).parents[1] / "docs/security.md"
MODES = ("open", "required")
#: The calls that change a thread.
CHANGES = ("UpdateThread", "UpdateThread with `stage`", "SetThreadState", "DeleteThread")


class Row(NamedTuple):
    """A row of the table: which callers may make a call."""

    call: str
    scope: str
    #: What happens to other threads than those of the token's prefixes.
    others: str
    may: dict[str, str]

    @property
    def rpc(self) -> Rpc:
        return next(rpc for rpc in RPCS if str(rpc) == self.call.split()[0])

    def request(self, thread: str, caller: Caller | None, victim: Caller) -> Message:
        """Returns a request that succeeds, if it is permitted.

        `victim`: an agent for the call to be about.
        """
        _, _, field = self.call.replace("`", "").partition(" with ")
        request = good_request(self.rpc, thread)
        if isinstance(request, PostMessageRequest) and field:
            request.on_behalf_of = victim.name
        elif isinstance(request, PostMessagesRequest) and field:
            request.posts[0].on_behalf_of = victim.name
        elif isinstance(request, JoinThreadRequest) and field:
            request.create = True
        elif isinstance(request, CreateThreadRequest):
            request.thread = f"{thread}-new"
        elif isinstance(request, UpdateThreadRequest) and not field:
            request.topic, request.update_mask.paths[:] = "y", ["topic", "stage"]
        elif isinstance(request, RegisterAgentRequest):
            request.agent = f"{thread}-new"
            if field:
                request.kind = AGENT_KIND_HUMAN
            elif caller == victim:
                request.agent, request.token = victim.name, victim.token
        elif isinstance(
            request,
            EndSessionRequest | RotateTokenRequest | UnregisterAgentRequest | UpdateAgentRequest,
        ):
            request.agent = victim.name
        return request


def table() -> Iterator[Row]:
    """Yields the rows of the table in the docs."""
    _, _, text = PAGE.read_text("utf-8").partition("<!-- permissions -->")
    head, _, *rows = text.partition("<!-- end")[0].strip().splitlines()
    _, _, _, *callers = (cell.strip() for cell in head.strip("|").split("|"))
    for row in rows:
        call, scope, others, *cells = (cell.strip() for cell in row.strip("|").split("|"))
        yield Row(call, scope, others, dict(zip(callers, cells, strict=True)))


@pytest.fixture(scope="module", params=MODES)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, chosen_store: None
) -> Iterator[ServerProcess]:
    """This module's server, in each mode."""
    db = tmp_path_factory.mktemp("server") / "bus.db"
    with ServerProcess(db, "--auth", request.param) as running:
        yield running


@pytest.fixture
def boss(server: ServerProcess) -> Caller:
    """The operator of this module's server."""
    return operator(server)


async def callers(agents: AgentStub, boss: Caller, name: str) -> dict[str, Caller | None]:
    """Returns a new caller of each kind."""
    return {
        "anonymous": None,
        "agent": await register(agents, f"{name}-agent", boss),
        "participant": await register(agents, f"{name}-participant", boss),
        "owner": await register(agents, f"{name}-owner", boss),
        "person": await register(agents, f"{name}-person", boss, AGENT_KIND_HUMAN),
        "operator": boss,
    }


async def prepare(
    bus: BusStub, threads: ThreadStub, name: str, owner: Caller | None, *posters: Caller | None
) -> str:
    """Create a thread with a message of each poster. Returns its epoch."""
    metadata = owner.metadata if owner else ()
    created = await threads.CreateThread(CreateThreadRequest(thread=name), metadata=metadata)
    for poster in posters:
        post = PostMessageRequest(thread=name, content="x")
        await bus.PostMessage(post, metadata=poster.metadata if poster else ())
    return created.thread.epoch


async def ask(bus: BusStub, thread: str, asker: Caller | None, agent: Caller | None) -> int:
    """Ask an agent for a reply. Returns the question's seq."""
    assert asker is not None
    assert agent is not None
    post = PostMessageRequest(
        thread=thread, content="?", expect_reply=ExpectReply(agents=[agent.name])
    )
    return (await bus.PostMessage(post, metadata=asker.metadata)).seq


async def reason(channel: grpc.aio.Channel, request: Message, caller: Caller | None) -> str:
    """Make a call. Returns the reason of its refusal; empty if it succeeds."""
    call = send(channel, request, caller.metadata if caller else ())
    info = ErrorInfo()
    try:
        if not isinstance(call, AsyncGenerator):
            await call
            return ""
        answers = [answer async for answer in call]
    except grpc.aio.AioRpcError as error:
        return read(error).reason
    if isinstance(request, PostMessagesRequest):
        (result,) = PostMessagesResponse.FromString(answers[0]).results
        if result.HasField("status"):
            result.status.details[0].Unpack(info)
    return str(info.reason)


def test_the_table_has_every_method() -> None:
    methods = {f"{rpc.path.split('.')[-1].replace('/', '.')}" for rpc in RPCS}
    assert RULES.keys() == methods
    assert {str(row.rpc) for row in table()} == {str(rpc) for rpc in RPCS}


@pytest.mark.parametrize("row", list(table()), ids=lambda row: row.call.replace("`", ""))
async def test_calls_are_permitted_as_the_table_says(
    channel: grpc.aio.Channel,
    bus: BusStub,
    threads: ThreadStub,
    agents: AgentStub,
    boss: Caller,
    name: str,
    row: Row,
) -> None:
    mode = (await bus.GetServerInfo(GetServerInfoRequest())).auth
    everyone = await callers(agents, boss, name)
    owner = everyone["owner"]
    for who in everyone:
        await prepare(bus, threads, f"{name}-{who}-t", owner, everyone["participant"])
    found = {}
    for who, caller in everyone.items():
        thread = f"{name}-{who}-t"
        about = owner if who == "owner" else await register(agents, f"{name}-{who}-about", boss)
        assert about is not None
        request = row.request(thread, caller, about)
        if isinstance(request, RevokeTokenRequest):
            request.token_id = (await create_token(channel, boss, about.name)).token.token_id
        if isinstance(request, WithdrawRequestRequest):
            request.seq = await ask(bus, thread, owner, everyone["participant"])
        why = await reason(channel, request, caller)
        assert why in ("", "ACCESS_DENIED", "TOKEN_INVALID"), (who, why)
        found[who] = not why
        if why and row.call in CHANGES:
            again = GetThreadRequest(thread=thread)
            after = await threads.GetThread(again, metadata=boss.metadata)
            assert after.thread.head_seq == 1
    assert found == {who: may == "yes" or may == mode for who, may in row.may.items()}


SCOPES = ("post", "read", "admin")


@pytest.mark.parametrize("row", list(table()), ids=lambda row: row.call.replace("`", ""))
async def test_a_token_permits_only_its_scopes(
    channel: grpc.aio.Channel,
    bus: BusStub,
    threads: ThreadStub,
    agents: AgentStub,
    boss: Caller,
    name: str,
    row: Row,
) -> None:
    """Each subset of the scopes, of a person, whom nothing else stops from changing threads."""
    base = next(each for each in table() if each.call == row.call.split()[0])
    mode = (await bus.GetServerInfo(GetServerInfoRequest())).auth
    person = await register(agents, name, boss, AGENT_KIND_HUMAN)
    subsets = [set(some) for n in (1, 2, 3) for some in itertools.combinations(SCOPES, n)]
    for scopes in subsets:
        thread = f"{name}-{'-'.join(sorted(scopes))}"
        await prepare(bus, threads, thread, boss, boss)
        caller = await with_token(channel, boss, name, scopes=scopes)
        victim = await register(agents, thread, boss)
        request = row.request(thread, caller, victim)
        if isinstance(request, RevokeTokenRequest):
            request.token_id = (await create_token(channel, boss, name)).token.token_id
        if isinstance(request, WithdrawRequestRequest):
            request.seq = await ask(bus, thread, boss, victim)
        why = await reason(channel, request, caller)
        may = row.may["operator" if "admin" in scopes else "person"]
        permitted = may in ("yes", mode) and {row.scope, base.scope} - {""} <= scopes
        assert why == ("" if permitted else "ACCESS_DENIED"), scopes
    await bus.GetServerInfo(GetServerInfoRequest(), metadata=person.metadata)


@pytest.mark.parametrize("row", list(table()), ids=lambda row: row.call.replace("`", ""))
async def test_other_threads_do_not_exist_for_a_token_with_prefixes(
    channel: grpc.aio.Channel,
    bus: BusStub,
    threads: ThreadStub,
    agents: AgentStub,
    boss: Caller,
    name: str,
    row: Row,
) -> None:
    mode = (await bus.GetServerInfo(GetServerInfoRequest())).auth
    await register(agents, name, boss, AGENT_KIND_HUMAN)
    own = f"{name}-own"
    caller = await with_token(channel, boss, name, thread_prefixes=[f"{name}-none", own])
    victim = await register(agents, f"{name}-other", boss)
    for thread in (own, f"{name}-other"):
        await prepare(bus, threads, thread, boss, boss)
    expected = {"not found": "THREAD_NOT_FOUND", "always denied": "ACCESS_DENIED"}
    expected |= {"denied": "ACCESS_DENIED", "left out": "", "": ""}
    denied = "" if row.may["person"] in ("yes", mode) else "ACCESS_DENIED"
    # An existing thread and a missing one look the same.
    refusals = []
    for thread in (f"{name}-other", f"{name}-missing"):
        request = row.request(thread, caller, victim)
        assert await reason(channel, request, caller) == (expected[row.others] or denied)
        if row.others == "not found" and not isinstance(request, PostMessagesRequest):
            refusal = await refused(send(channel, request, caller.metadata))
            refusals.append(refusal.message.replace(thread, "THREAD"))
    assert len(set(refusals)) <= 1
    found = await threads.GetThread(
        GetThreadRequest(thread=f"{name}-other"), metadata=boss.metadata
    )
    assert found.thread.head_seq == 1
    if row.others != "always denied":
        request = row.request(own, caller, victim)
        if isinstance(request, WithdrawRequestRequest):
            request.seq = await ask(bus, own, boss, victim)
        assert await reason(channel, request, caller) == denied


CHANGING = [row for row in table() if row.call in CHANGES]


@pytest.mark.parametrize("row", CHANGING, ids=lambda row: row.call.replace("`", ""))
async def test_anyone_changes_what_anonymous_created(
    channel: grpc.aio.Channel,
    bus: BusStub,
    threads: ThreadStub,
    agents: AgentStub,
    boss: Caller,
    name: str,
    row: Row,
) -> None:
    if (await bus.GetServerInfo(GetServerInfoRequest())).auth == "required":
        return  # anonymous creates nothing
    for who, caller in (await callers(agents, boss, name)).items():
        await prepare(bus, threads, f"{name}-{who}-t", None, None)
        request = row.request(f"{name}-{who}-t", caller, boss)
        assert await reason(channel, request, caller) == ""


@pytest.mark.usefixtures("chosen_store")
async def test_with_thread_rights_of_everyone_any_caller_changes_any_thread(
    tmp_path: Path, name: str
) -> None:
    with ServerProcess(tmp_path / "bus.db", "--thread-rights", "everyone") as server:
        async with connected(server.address) as client:
            info = await client.bus.GetServerInfo(GetServerInfoRequest())
            assert info.thread_rights == "everyone"
            boss = operator(server)
            everyone = await callers(client.agents, boss, name)
            for row in CHANGING:
                for who, caller in everyone.items():
                    thread = f"{row.call.split()[-1].strip('`')}-{who}"
                    await prepare(client.bus, client.threads, thread, everyone["owner"], None)
                    request = row.request(thread, caller, boss)
                    assert await reason(client.channel, request, caller) == ""


@pytest.mark.parametrize("row", CHANGING, ids=lambda row: row.call.replace("`", ""))
async def test_a_change_needs_the_epoch_that_it_names(
    channel: grpc.aio.Channel,
    bus: BusStub,
    threads: ThreadStub,
    boss: Caller,
    name: str,
    row: Row,
) -> None:
    former = await prepare(bus, threads, name, boss)
    await threads.DeleteThread(DeleteThreadRequest(thread=name), metadata=boss.metadata)
    epoch = await prepare(bus, threads, name, boss, boss)
    request: Any = row.request(name, boss, boss)
    request.epoch = former
    refusal = await refused(send(channel, request, boss.metadata))
    assert (refusal.reason, refusal.metadata["epoch"]) == ("CURSOR_INVALID", epoch)
    found = await threads.GetThread(GetThreadRequest(thread=name), metadata=boss.metadata)
    assert (found.thread.head_seq, found.thread.epoch) == (1, epoch)
    request.epoch = epoch
    assert await reason(channel, request, boss) == ""


async def test_of_several_that_delete_an_epoch_one_succeeds(
    channel: grpc.aio.Channel, bus: BusStub, threads: ThreadStub, boss: Caller, name: str
) -> None:
    epoch = await prepare(bus, threads, name, boss, boss)
    request = DeleteThreadRequest(thread=name, epoch=epoch)

    async def take_over() -> str:
        why = await reason(channel, request, boss)
        if not why:
            await prepare(bus, threads, name, boss)
        return why

    reasons = await asyncio.gather(*(take_over() for _ in range(8)))
    assert reasons.count("") == 1
    assert set(reasons) <= {"", "CURSOR_INVALID", "THREAD_NOT_FOUND"}
    found = await threads.GetThread(GetThreadRequest(thread=name), metadata=boss.metadata)
    assert found.thread.head_seq == 0


async def test_a_refusal_names_those_who_may(
    bus: BusStub, threads: ThreadStub, agents: AgentStub, boss: Caller, name: str
) -> None:
    owner, other = [await register(agents, f"{name}-{one}", boss) for one in ("owner", "other")]
    await prepare(bus, threads, name, owner)
    request = SetThreadStateRequest(thread=name, state=THREAD_STATE_CLOSED)
    refusal = await refused(threads.SetThreadState(request, metadata=other.metadata))
    assert f"only {owner.name}, people and operators may do this" in refusal.message
    stage = UpdateThreadRequest(thread=name, stage="x", update_mask=FieldMask(paths=["stage"]))
    refusal = await refused(threads.UpdateThread(stage, metadata=other.metadata))
    assert f"only participants, {owner.name}, people" in refusal.message
