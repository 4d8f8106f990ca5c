"""`threadbus mcp` with the official MCP clients, in Python and TypeScript."""

import uuid
from collections.abc import AsyncIterator

import pytest

from bus_client import BusClient
from tests.mcp.command import Command
from tests.mcp.driver import CLIENTS, OfficialClient, connected
from tests.polling import until, until_known
from tests.serving import ServerProcess
from tests.test_traceparents import FIRST, SECOND
from threadbus.v1.agent_pb2 import PRESENCE_OFFLINE, PRESENCE_WAITING

pytestmark = pytest.mark.slow

_TOOLS = {"bus_join", "bus_post", "bus_wait", "bus_read", "bus_who"}


class Model:
    """An agent whose host is an official client."""

    def __init__(self, name: str, kind: str, client: OfficialClient) -> None:
        self.name = name
        self.kind = kind
        self.client = client


@pytest.fixture(scope="module", params=CLIENTS)
async def model(
    request: pytest.FixtureRequest,
    shared_server: ServerProcess,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Model]:
    """One for all tests, which take threads of their own."""
    name = f"model-{uuid.uuid4().hex[:8]}"
    command = Command(shared_server.address, name, tmp_path_factory.mktemp("model"))
    async with connected(request.param, command) as client:
        yield Model(name, request.param, client)


@pytest.fixture(scope="module")
async def peer(
    shared_server: ServerProcess, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[BusClient]:
    """An agent that uses the SDK."""
    credentials = tmp_path_factory.mktemp("peer") / "credentials.json"
    name = f"peer-{uuid.uuid4().hex[:8]}"
    async with BusClient(shared_server.address, agent=name, credentials=credentials) as bus:
        yield bus


async def _is_waiting(peer: BusClient, thread: str, agent: str) -> bool:
    async for one in peer.thread(thread).list_participants():
        if one.agent == agent:
            return one.waiting and one.presence == PRESENCE_WAITING
    return False


async def test_it_is_told_whom_it_talks_to_and_how(model: Model) -> None:
    server = model.client.server
    assert (server["name"], server["protocol"]) == ("threadbus", "2025-11-25")
    assert "bus_wait" in server["instructions"]
    await model.client.ping()


async def test_it_lists_five_tools_that_harm_nothing(model: Model) -> None:
    tools = {tool["name"]: tool for tool in await model.client.tools()}
    assert set(tools) == _TOOLS
    for tool in tools.values():
        assert tool["description"]
        assert tool["inputSchema"]["type"] == "object"
        hints = tool["annotations"]
        assert (hints["destructiveHint"], hints["openWorldHint"]) == (False, False)
        assert tool.get("outputSchema") is None


async def test_it_posts_for_others_to_read(model: Model, peer: BusClient, thread: str) -> None:
    await model.client.call("bus_join", thread=thread).text()
    posted = await model.client.call("bus_post", text="Is it ready?\n✓").text()
    assert f"{thread} #1" in posted
    (message,) = await peer.thread(thread).messages()
    assert (message.sender, message.content) == (model.name, "Is it ready?\n✓")


async def test_what_it_posts_has_the_traceparent_of_its_call(
    model: Model, peer: BusClient, thread: str
) -> None:
    await model.client.call("bus_join", thread=thread).text()
    for traceparent in (FIRST, SECOND):
        post = model.client.call("bus_post", text="x", thread=thread, traceparent=traceparent)
        await post.text()
    messages = await peer.thread(thread).messages()
    assert [message.traceparent for message in messages] == [FIRST, SECOND]


async def test_it_joins_late_and_reads_what_was_said(
    model: Model, peer: BusClient, thread: str
) -> None:
    handle = await peer.join(thread)
    for number in range(1, 4):
        await handle.post(f"fact {number}")
    joined = await model.client.call("bus_join", thread=thread, history=2).text()
    assert "fact 1" not in joined
    assert f"#3 {peer.agent}: fact 3" in joined
    assert "fact 1" in await model.client.call("bus_read", after_seq=0, thread=thread).text()
    assert peer.agent in await model.client.call("bus_who", thread=thread).text()


async def test_a_post_wakes_it(model: Model, peer: BusClient, thread: str) -> None:
    handle = await peer.join(thread)
    await model.client.call("bus_join", thread=thread).text()
    wait = model.client.call("bus_wait", thread=thread)
    await until_known(lambda: _is_waiting(peer, thread, model.name))
    posted = await handle.post("wake up", mentions=[model.name])
    assert f"#{posted.seq} {peer.agent} @{model.name}: wake up" in await wait.text()


async def test_a_wait_without_messages_says_so(model: Model, thread: str) -> None:
    await model.client.call("bus_join", thread=thread).text()
    nothing = await model.client.call("bus_wait", timeout_s=0, thread=thread).text()
    assert nothing.startswith(f"No messages in {thread}")


async def test_a_wait_reports_progress(model: Model, peer: BusClient, thread: str) -> None:
    handle = await peer.join(thread)
    await model.client.call("bus_join", thread=thread).text()
    wait = model.client.call("bus_wait", thread=thread, progress=True)
    await until(lambda: bool(wait.progress))
    await handle.post("at last")
    assert "at last" in await wait.text()


@pytest.mark.soak
@pytest.mark.timeout(120)
@pytest.mark.parametrize("model", ["typescript-1", "typescript-2"], indirect=True)
async def test_progress_keeps_a_client_waiting_past_its_limit(
    model: Model, peer: BusClient, thread: str
) -> None:
    handle = await peer.join(thread)
    await model.client.call("bus_join", thread=thread).text()
    wait = model.client.call("bus_wait", thread=thread, progress=True, within=20, timeout_s=100)
    await until(lambda: bool(wait.progress) and wait.progress[-1] > 22, within=60)
    assert wait.progress == sorted(set(wait.progress))
    await handle.post("at last")
    assert "at last" in await wait.text()


async def test_the_model_is_told_what_is_wrong(model: Model, thread: str) -> None:
    await model.client.call("bus_join", thread=thread).text()
    assert "text" in await model.client.call("bus_post", thread=thread).error()
    surplus = model.client.call("bus_post", text="a", thread=thread, foo=1)
    assert "foo" in await surplus.error()
    unknown = model.client.call("bus_post", text="a", thread=thread, mentions=["nobody-at-all"])
    assert "nobody-at-all" in await unknown.error()


async def test_a_second_wait_is_refused_and_the_first_goes_on(
    model: Model, peer: BusClient, thread: str
) -> None:
    handle = await peer.join(thread)
    await model.client.call("bus_join", thread=thread).text()
    first = model.client.call("bus_wait", thread=thread)
    await until_known(lambda: _is_waiting(peer, thread, model.name))
    second = await model.client.call("bus_wait", thread=thread).result()
    assert "already waiting" in second["text"]
    await handle.post("for the first")
    assert "for the first" in await first.text()


async def test_a_wait_that_it_cancels_reads_nothing(
    model: Model, peer: BusClient, thread: str
) -> None:
    handle = await peer.join(thread)
    await model.client.call("bus_join", thread=thread).text()
    wait = model.client.call("bus_wait", thread=thread)
    await until_known(lambda: _is_waiting(peer, thread, model.name))
    model.client.cancel(wait)
    assert await wait.failure() == "cancelled"
    await handle.post("still unread")
    assert "still unread" in await model.client.next_wait(thread)


async def test_a_wait_that_it_cancels_at_once_reads_nothing(
    model: Model, peer: BusClient, thread: str
) -> None:
    handle = await peer.join(thread)
    await model.client.call("bus_join", thread=thread).text()
    wait = model.client.call("bus_wait", thread=thread)
    model.client.cancel(wait)
    assert await wait.failure() == "cancelled"
    await handle.post("still unread")
    assert "still unread" in await model.client.next_wait(thread)


async def test_a_wait_that_it_gives_up_reads_nothing(
    model: Model, peer: BusClient, thread: str
) -> None:
    handle = await peer.join(thread)
    await model.client.call("bus_join", thread=thread).text()
    wait = model.client.call("bus_wait", thread=thread, within=0.5)
    assert "timed out" in await wait.failure()
    await handle.post("still unread")
    assert "still unread" in await model.client.next_wait(thread)


@pytest.mark.parametrize("kind", CLIENTS)
async def test_its_end_is_a_goodbye(
    server: ServerProcess, peer: BusClient, thread: str, kind: str, command: Command
) -> None:
    async with connected(kind, command) as client:
        await client.call("bus_join", thread=thread).text()
    assert (await peer.get_agent(command.agent)).presence == PRESENCE_OFFLINE
