"""Filters: which messages of a conversation match, for ListMessages and WaitMessages alike."""

from collections.abc import Awaitable, Callable, Iterator

import pytest
from google.protobuf.duration_pb2 import Duration

from tests.callers import Caller, operator
from tests.refusals import refused
from tests.rpcs import Metadata
from tests.serving import AgentStub, BusStub, ServerProcess, ThreadStub
from threadbus.v1.agent_service_pb2 import RegisterAgentRequest
from threadbus.v1.bus_service_pb2 import (
    ListMessagesRequest,
    PostMessageRequest,
    WaitMessagesRequest,
)
from threadbus.v1.message_pb2 import (
    MESSAGE_KIND_CHAT,
    MESSAGE_KIND_THREAD,
    PRIORITY_HIGH,
    PRIORITY_LOW,
    PRIORITY_NORMAL,
    PRIORITY_UNSPECIFIED,
    PRIORITY_URGENT,
    Cursor,
    MessageFilter,
)
from threadbus.v1.thread_pb2 import THREAD_STATE_CLOSED, THREAD_STATE_OPEN
from threadbus.v1.thread_service_pb2 import SetThreadStateRequest

ALL = list(range(1, 13))

Read = Callable[[BusStub, str, MessageFilter, Metadata], Awaitable[tuple[list[int], int]]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, chosen_store: None) -> Iterator[ServerProcess]:
    """This module's server, where the agents have the names that the filters name."""
    with ServerProcess(tmp_path_factory.mktemp("server") / "bus.db") as running:
        yield running


@pytest.fixture
async def coder(agents: AgentStub) -> Caller:
    return await _registered(agents, "coder")


@pytest.fixture
async def reviewer(agents: AgentStub) -> Caller:
    return await _registered(agents, "reviewer")


async def _registered(agents: AgentStub, name: str) -> Caller:
    token = name * 8
    await agents.RegisterAgent(RegisterAgentRequest(agent=name, token=token))
    return Caller(name, token)


@pytest.fixture
async def conversation(
    bus: BusStub,
    threads: ThreadStub,
    server: ServerProcess,
    coder: Caller,
    reviewer: Caller,
    thread: str,
) -> str:
    """A thread of twelve entries, by two agents, the operator and anonymous."""

    async def post(by: Caller | None, request: PostMessageRequest) -> int:
        request.thread, request.content = thread, "x"
        return (await bus.PostMessage(request, metadata=by.metadata if by else ())).seq

    boss = operator(server)
    assert await post(coder, PostMessageRequest()) == 1
    await post(reviewer, PostMessageRequest(mentions=["coder"], priority=PRIORITY_HIGH))
    await post(None, PostMessageRequest(priority=PRIORITY_LOW))
    await post(coder, PostMessageRequest(handoff_to="reviewer", priority=PRIORITY_URGENT))
    await post(reviewer, PostMessageRequest(reply_to=1))
    await post(None, PostMessageRequest(reply_to=4, mentions=["reviewer", "coder"]))
    await post(coder, PostMessageRequest(reply_to=1))
    for state in (THREAD_STATE_CLOSED, THREAD_STATE_OPEN):
        request = SetThreadStateRequest(thread=thread, state=state)
        await threads.SetThreadState(request, metadata=reviewer.metadata)
    await post(boss, PostMessageRequest(on_behalf_of="coder"))
    await post(None, PostMessageRequest(reply_to=10))
    assert await post(None, PostMessageRequest(reply_to=3)) == 12
    return thread


async def by_pages(
    bus: BusStub, thread: str, wanted: MessageFilter, metadata: Metadata
) -> tuple[list[int], int]:
    """Returns what ListMessages returns, and where it continues."""
    request = ListMessagesRequest(thread=thread, filter=wanted)
    page = await bus.ListMessages(request, metadata=metadata)
    return [message.seq for message in page.messages], page.next_after_seq


async def by_wait(
    bus: BusStub, thread: str, wanted: MessageFilter, metadata: Metadata
) -> tuple[list[int], int]:
    """Returns what WaitMessages delivers, and where it continues."""
    request = WaitMessagesRequest(
        threads=[Cursor(thread=thread)], filter=wanted, max_wait=Duration()
    )
    frames = [frame async for frame in bus.WaitMessages(request, metadata=metadata)]
    (position,) = frames[-1].ending.threads
    return [m.seq for frame in frames for m in frame.messages.messages], position.cursor.after_seq


both_roads = pytest.mark.parametrize("read", [by_pages, by_wait])


CASES = [
    ("anonymous", MessageFilter(), ALL),
    ("anonymous", MessageFilter(senders=["coder"]), [1, 4, 7, 10]),
    ("anonymous", MessageFilter(senders=["operator"]), []),
    ("anonymous", MessageFilter(senders=["unknown"]), []),
    ("anonymous", MessageFilter(senders=["anonymous", "coder"]), [1, 3, 4, 6, 7, 10, 11, 12]),
    ("anonymous", MessageFilter(exclude_own=True), ALL),
    ("coder", MessageFilter(exclude_own=True), [2, 3, 5, 6, 8, 9, 11, 12]),
    ("coder", MessageFilter(exclude_own=True, senders=["coder"]), []),
    ("reviewer", MessageFilter(exclude_own=True), [1, 3, 4, 6, 7, 10, 11, 12]),
    ("operator", MessageFilter(exclude_own=True), ALL),
    ("anonymous", MessageFilter(min_priority=PRIORITY_UNSPECIFIED), ALL),
    ("anonymous", MessageFilter(min_priority=PRIORITY_LOW), ALL),
    ("anonymous", MessageFilter(min_priority=PRIORITY_NORMAL), [s for s in ALL if s != 3]),
    ("anonymous", MessageFilter(min_priority=PRIORITY_HIGH), [2, 4]),
    ("anonymous", MessageFilter(min_priority=PRIORITY_URGENT), [4]),
    ("anonymous", MessageFilter(kinds=[MESSAGE_KIND_THREAD]), [8, 9]),
    ("anonymous", MessageFilter(kinds=[MESSAGE_KIND_CHAT]), [*ALL[:7], *ALL[9:]]),
    ("anonymous", MessageFilter(kinds=[MESSAGE_KIND_CHAT, MESSAGE_KIND_THREAD]), ALL),
    # By mention, by hand-off, by a reply to a message of the caller's, even one posted on its
    # behalf, even by the caller itself.
    ("coder", MessageFilter(addressed_to_me=True), [2, 5, 6, 7, 11]),
    ("reviewer", MessageFilter(addressed_to_me=True), [4, 6]),
    ("operator", MessageFilter(addressed_to_me=True), []),
    ("coder", MessageFilter(addressed_to_me=True, exclude_own=True), [2, 5, 6, 11]),
    ("coder", MessageFilter(addressed_to_me=True, senders=["anonymous"]), [6, 11]),
    ("coder", MessageFilter(addressed_to_me=True, min_priority=PRIORITY_HIGH), [2]),
    (
        "coder",
        MessageFilter(exclude_own=True, senders=["reviewer"], kinds=[MESSAGE_KIND_CHAT]),
        [2, 5],
    ),
]


@both_roads
@pytest.mark.parametrize(
    ("caller", "wanted", "seqs"),
    CASES,
    ids=[f"{caller}: {' '.join(str(wanted).split())}" for caller, wanted, _ in CASES],
)
async def test_a_filter_returns_what_matches_and_the_rest_moves_the_cursor(
    bus: BusStub,
    server: ServerProcess,
    coder: Caller,
    reviewer: Caller,
    conversation: str,
    read: Read,
    caller: str,
    wanted: MessageFilter,
    seqs: list[int],
) -> None:
    tokens: dict[str, Metadata] = {
        "anonymous": (),
        "coder": coder.metadata,
        "reviewer": reviewer.metadata,
        "operator": operator(server).metadata,
    }
    assert await read(bus, conversation, wanted, tokens[caller]) == (seqs, 12)


@both_roads
async def test_nothing_is_addressed_to_anonymous_by_name(
    bus: BusStub, thread: str, read: Read
) -> None:
    wanted = MessageFilter(addressed_to_me=True)
    refusal = await refused(read(bus, thread, wanted, ()))
    assert (refusal.reason, refusal.fields) == ("VALIDATION_FAILED", ["filter.addressed_to_me"])


@both_roads
async def test_a_reply_to_a_reply_is_not_addressed_to_the_first_author(
    bus: BusStub, coder: Caller, reviewer: Caller, thread: str, read: Read
) -> None:
    for reply_to, by in enumerate((coder, reviewer, reviewer, reviewer)):
        post = PostMessageRequest(thread=thread, content="x", reply_to=reply_to)
        await bus.PostMessage(post, metadata=by.metadata)
    wanted = MessageFilter(addressed_to_me=True)
    assert await read(bus, thread, wanted, coder.metadata) == ([2], 4)
    assert await read(bus, thread, wanted, reviewer.metadata) == ([3, 4], 4)


@both_roads
async def test_addressed_messages_are_found_though_the_message_replied_to_is_far_back(
    bus: BusStub, coder: Caller, thread: str, read: Read
) -> None:
    post = PostMessageRequest(thread=thread, content="x")
    await bus.PostMessage(post, metadata=coder.metadata)
    for _ in range(20):
        await bus.PostMessage(post)
    post.reply_to = 1
    await bus.PostMessage(post)
    wanted = MessageFilter(addressed_to_me=True)
    assert await read(bus, thread, wanted, coder.metadata) == ([22], 22)
