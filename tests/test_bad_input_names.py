"""Invalid fields in requests that create, list and change threads and agents."""

from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from tests.refusals import refused
from tests.rpcs import nothing_stored, send
from tests.serving import AgentStub, ThreadStub
from threadbus.v1.agent_pb2 import (
    AGENT_KIND_ANONYMOUS,
    AGENT_KIND_SYSTEM,
    PRESENCE_IDLE,
    Agent,
    AgentKind,
    Presence,
)
from threadbus.v1.agent_service_pb2 import (
    GetAgentRequest,
    ListAgentsRequest,
    RegisterAgentRequest,
)
from threadbus.v1.thread_pb2 import (
    SYNC_MODE_STRICT,
    THREAD_STATE_CLOSED,
    SyncMode,
    Thread,
    ThreadState,
)
from threadbus.v1.thread_service_pb2 import (
    CreateThreadRequest,
    DeleteThreadRequest,
    GetThreadRequest,
    JoinStart,
    JoinThreadRequest,
    LeaveThreadRequest,
    ListParticipantsRequest,
    ListThreadsRequest,
    SetThreadStateRequest,
    UpdateThreadRequest,
)

pytestmark = pytest.mark.small_server

STANDING = "standing"
INT32_MIN = -(2**31)
RESERVED = ["anonymous", "system", "operator", "me", "all", "everyone", "here", "none"]
WRONG_THREADS = ["", ".x", "-x", "_x", "a b", "a/b", "a\n", "a\0", "é", "x" * 129]
WRONG_AGENTS = [".x", "-x", "_x", "Upper", "a b", "a/b", "a\n", "ß", "x" * 64]
WRONG_STATES = [ThreadState.ValueType(number) for number in (4, 99, -1)]
WRONG_MODES = [SyncMode.ValueType(number) for number in (3, 99, -1)]
WRONG_LABELS: list[tuple[dict[str, str], str]] = [
    ({str(n): "" for n in range(33)}, "labels"),
    ({"": "no key"}, "labels"),
    ({"é" * 32: "a key of 64 bytes"}, "labels"),
    ({"k": "v" * 257}, 'labels["k"]'),
]
WRONG_MASKS: list[tuple[list[str], str]] = [
    ([], "update_mask"),
    ([""], "update_mask.paths[0]"),
    (["topic", "state"], "update_mask.paths[1]"),
    (["topic", "topic", "Topic"], "update_mask.paths[2]"),
    (["topic.x"], "update_mask.paths[0]"),
    (["*"], "update_mask.paths[0]"),
    (["x" * 100_000], "update_mask.paths[0]"),
    (["topic,stage"], "update_mask.paths[0]"),
    (["update_mask"], "update_mask.paths[0]"),
    (["thread"], "update_mask.paths[0]"),
]
# Too short, too long, of no page of ours, of an older server's, and another list's.
WRONG_PAGES = ["x", "not a token", "é", "AAAA", "A" * 1_000, "\0", "A" * 32, "name"]


@pytest.fixture(autouse=True)
async def existing(threads: ThreadStub) -> None:
    """An existing thread."""
    await threads.JoinThread(JoinThreadRequest(thread=STANDING, create=True))


def create(**fields: Any) -> CreateThreadRequest:
    return CreateThreadRequest(**{"thread": "never-made", **fields})


def join(**fields: Any) -> JoinThreadRequest:
    return JoinThreadRequest(**{"thread": "never-made", "create": True, **fields})


def update(**fields: Any) -> UpdateThreadRequest:
    mask = FieldMask(paths=["topic", "stage", "labels", "sync_mode"])
    return UpdateThreadRequest(**{"thread": STANDING, "update_mask": mask, **fields})


def register(**fields: Any) -> RegisterAgentRequest:
    return RegisterAgentRequest(**{"agent": "never-registered", **fields})


WRONG: list[tuple[Message, str]] = [
    *((create(thread=bad), "thread") for bad in WRONG_THREADS),
    (create(topic="x" * 1_025), "topic"),
    (create(topic="é" * 513), "topic"),
    *((create(sync_mode=bad), "sync_mode") for bad in WRONG_MODES),
    *((create(labels=bad), field) for bad, field in WRONG_LABELS),
    *((GetThreadRequest(thread=bad), "thread") for bad in WRONG_THREADS),
    (ListThreadsRequest(page_size=-1), "page_size"),
    (ListThreadsRequest(page_size=INT32_MIN), "page_size"),
    *((ListThreadsRequest(page_token=bad), "page_token") for bad in WRONG_PAGES),
    *((ListThreadsRequest(states=[THREAD_STATE_CLOSED, bad]), "states[1]") for bad in WRONG_STATES),
    *((ListThreadsRequest(participant=bad), "participant") for bad in WRONG_AGENTS),
    *((join(thread=bad), "thread") for bad in WRONG_THREADS),
    (join(topic="x" * 1_025), "topic"),
    (join(context_limit=-1), "context_limit"),
    (join(context_limit=INT32_MIN), "context_limit"),
    *((join(start=JoinStart.ValueType(bad)), "start") for bad in (3, 99, -1)),
    *(
        (SetThreadStateRequest(thread=bad, state=THREAD_STATE_CLOSED), "thread")
        for bad in WRONG_THREADS
    ),
    (SetThreadStateRequest(thread=STANDING), "state"),
    *((SetThreadStateRequest(thread=STANDING, state=bad), "state") for bad in WRONG_STATES),
    *((DeleteThreadRequest(thread=bad), "thread") for bad in WRONG_THREADS),
    *((register(agent=bad), "agent") for bad in ["", *WRONG_AGENTS, *RESERVED]),
    *(
        (register(kind=AgentKind.ValueType(bad)), "kind")
        for bad in (AGENT_KIND_ANONYMOUS, AGENT_KIND_SYSTEM, 5, 99, -1)
    ),
    (register(display_name="x" * 129), "display_name"),
    (register(display_name="é" * 65), "display_name"),
    (register(description="x" * 1_025), "description"),
    *((register(labels=bad), field) for bad, field in WRONG_LABELS),
    *(
        (register(token=bad), "token")
        for bad in ("x" * 31, "x" * 129, "é" * 32, "x" * 32 + " ", "x" * 32 + "\n", "+" * 32)
    ),
    *((GetAgentRequest(agent=bad), "agent") for bad in WRONG_AGENTS),
    (ListAgentsRequest(page_size=-1), "page_size"),
    (ListAgentsRequest(page_size=INT32_MIN), "page_size"),
    *((ListAgentsRequest(page_token=bad), "page_token") for bad in WRONG_AGENTS),
    *(
        (ListAgentsRequest(presences=[PRESENCE_IDLE, Presence.ValueType(bad)]), "presences[1]")
        for bad in (7, 99, -1)
    ),
    *((LeaveThreadRequest(thread=bad), "thread") for bad in WRONG_THREADS),
    *((ListParticipantsRequest(thread=bad), "thread") for bad in WRONG_THREADS),
    (ListParticipantsRequest(thread=STANDING, page_size=-1), "page_size"),
    (ListParticipantsRequest(thread=STANDING, page_size=INT32_MIN), "page_size"),
    *(
        (ListParticipantsRequest(thread=STANDING, page_token=bad), "page_token")
        for bad in WRONG_AGENTS
    ),
    *((update(thread=bad), "thread") for bad in WRONG_THREADS),
    (update(topic="x" * 1_025), "topic"),
    (update(topic="é" * 513), "topic"),
    (update(stage="x" * 64), "stage"),
    (update(stage="é" * 32), "stage"),
    *((update(labels=bad), field) for bad, field in WRONG_LABELS),
    *((update(sync_mode=bad), "sync_mode") for bad in WRONG_MODES),
    *((update(update_mask=FieldMask(paths=bad)), field) for bad, field in WRONG_MASKS),
]


@pytest.mark.parametrize(
    ("request_", "field"),
    WRONG,
    ids=[f"{request.DESCRIPTOR.name}-{field}" for request, field in WRONG],
)
async def test_a_request_with_an_invalid_field_is_refused_with_the_fields_path(
    channel: grpc.aio.Channel, request_: Message, field: str
) -> None:
    async with nothing_stored(channel):
        refusal = await refused(send(channel, request_))
    assert (refusal.reason, refusal.fields) == ("VALIDATION_FAILED", [field])
    assert refusal.details == ["ErrorInfo", "BadRequest"]


async def test_a_thread_at_every_limit_is_accepted_and_stored_as_sent(
    threads: ThreadStub, name: str
) -> None:
    request = CreateThreadRequest(
        thread=(name + ".A_-").ljust(128, "0"),
        topic="é" * 512,
        labels={f"{n:02}" + "é" * 30 + "k": "é" * 128 for n in range(32)},
        sync_mode=SYNC_MODE_STRICT,
    )
    created = (await threads.CreateThread(request)).thread
    read = (await threads.GetThread(GetThreadRequest(thread=request.thread))).thread
    assert created == read
    assert read == Thread(
        name=request.thread,
        epoch=created.epoch,
        first_seq=1,
        state=ThreadState.THREAD_STATE_OPEN,
        topic=request.topic,
        labels=request.labels,
        sync_mode=SYNC_MODE_STRICT,
        creator="anonymous",
        create_time=created.create_time,
        update_time=created.create_time,
    )
    assert 1 <= len(created.epoch.encode()) <= 32


@pytest.mark.parametrize("token", ["-_aZ09" * 6, "x" * 32, "x" * 128])
async def test_an_agent_at_every_limit_is_accepted_and_stored_as_sent(
    agents: AgentStub, name: str, token: str
) -> None:
    request = RegisterAgentRequest(
        agent=(name + "._-").ljust(63, "0"),
        kind=AgentKind.AGENT_KIND_AGENT,
        display_name="é\0" + "é" * 62,
        description="\n" + "x" * 1_023,
        labels={f"{n:02}" + "é" * 30 + "k": "é" * 128 for n in range(32)},
        token=(token + name)[-128:],
    )
    answer = await agents.RegisterAgent(request)
    read = (await agents.GetAgent(GetAgentRequest(agent=request.agent))).agent
    for agent in (answer.agent, read):
        agent.ClearField("presence")
        agent.ClearField("last_seen_time")
    assert (answer.agent, answer.token) == (read, request.token)
    assert read == Agent(
        name=request.agent,
        kind=request.kind,
        display_name=request.display_name,
        description=request.description,
        labels=request.labels,
        create_time=read.create_time,
    )


@pytest.mark.own_server
@pytest.mark.parametrize("one_character", ["a", "0"])
async def test_a_name_of_one_character_is_valid(
    threads: ThreadStub, agents: AgentStub, one_character: str
) -> None:
    created = await threads.CreateThread(CreateThreadRequest(thread=one_character))
    assert created.thread.name == one_character
    registered = await agents.RegisterAgent(RegisterAgentRequest(agent=one_character))
    assert registered.agent.name == one_character


async def test_names_of_threads_are_case_sensitive(threads: ThreadStub, name: str) -> None:
    lower = (await threads.CreateThread(CreateThreadRequest(thread=name))).thread
    upper = (await threads.CreateThread(CreateThreadRequest(thread=name.upper()))).thread
    assert lower.epoch != upper.epoch
