"""What a page does: posting, reading on, requests, threads, and an operator's controls."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from bus_client import BusClient, SyncMode
from tests.console.consoles import PERSON, ConsoleProcess, browser, console_of
from tests.serving import ServerProcess

pytestmark = [pytest.mark.slow, pytest.mark.asking_server]


@pytest.fixture(scope="module")
def console(
    asking_server: ServerProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ConsoleProcess]:
    with console_of(asking_server, tmp_path_factory.mktemp(PERSON)) as running:
        yield running


@pytest.fixture(scope="module")
def operators(
    asking_server: ServerProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ConsoleProcess]:
    """A console with an operator's token."""
    with console_of(asking_server, tmp_path_factory.mktemp("boss"), None) as running:
        yield running


@pytest.fixture
async def client(console: ConsoleProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with browser(console) as opened:
        yield opened


@pytest.fixture
async def boss(operators: ConsoleProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with browser(operators) as opened:
        yield opened


async def done(client: httpx.AsyncClient, path: str, **given: Any) -> Any:
    """Returns what a request that succeeds returns."""
    response = await client.post(f"api/{path}", json=given)
    assert response.status_code == 200, response.text
    return response.json()


async def refused(client: httpx.AsyncClient, path: str, **given: Any) -> tuple[int, str]:
    """Returns the status and the reason of a request that is refused."""
    response = await client.post(f"api/{path}", json=given)
    assert response.json()["message"]
    return response.status_code, response.json()["reason"]


async def test_a_post_has_what_the_person_has_chosen(
    client: httpx.AsyncClient, bus: BusClient, name: str
) -> None:
    thread = await bus.join(name)
    await thread.post("a question")
    posted = await done(
        client,
        "post",
        thread=name,
        text="an <b>answer</b>",
        mentions=[bus.agent],
        reply_to=1,
        handoff_to=bus.agent,
        ask=True,
        priority="urgent",
        request_id="page-1",
    )
    assert (posted["seq"], posted["recipients"][0]["agent"]) == (2, bus.agent)
    message = await thread.message(2)
    assert (message.sender, message.content, message.reply_to) == (PERSON, "an <b>answer</b>", 1)
    assert (message.priority, message.handoff_to) == (4, bus.agent)
    assert message.sender_kind == 2
    assert list(message.mentions) == [bus.agent]
    (request,) = [each async for each in thread.list_requests()]
    assert (request.asker, request.agent) == (PERSON, bus.agent)
    (withdrawn,) = await done(client, "withdraw", thread=name, seq=2)
    assert withdrawn["state"] == "REQUEST_STATE_WITHDRAWN"


async def test_pressing_post_again_posts_once(
    client: httpx.AsyncClient, bus: BusClient, name: str
) -> None:
    thread = await bus.join(name)
    first = await done(client, "post", thread=name, text="once", request_id="page-1")
    again = await done(client, "post", thread=name, text="once", request_id="page-1")
    assert (first["seq"], again["seq"], again["deduplicated"]) == (1, 1, True)
    assert len(await thread.messages()) == 1
    assert await refused(client, "post", thread=name, text="other", request_id="page-1") == (
        409,
        "REQUEST_ID_REUSED",
    )


async def test_a_strict_thread_takes_the_post_of_a_person_once(
    client: httpx.AsyncClient, bus: BusClient, name: str
) -> None:
    await bus.create_thread(name, sync_mode=SyncMode.SYNC_MODE_STRICT)
    for _ in range(2):
        assert (await done(client, "post", thread=name, text="x", request_id="1"))["seq"] == 1
    assert (await done(client, "post", thread=name, text="y", request_id="2"))["seq"] == 2


async def test_others_see_how_far_the_person_has_read(
    client: httpx.AsyncClient, bus: BusClient, name: str
) -> None:
    thread = await bus.join(name)
    await thread.post("one", mentions=[PERSON])
    epoch = (await thread.post("two")).epoch
    await done(client, "read", thread=name, cursor=f"{epoch}:2")
    await done(client, "read", thread=name, cursor="other:1")  # of another history: nothing
    participants = (await bus.join(name)).participants
    assert {each.agent: each.read_seq for each in participants}[PERSON] == 2


async def test_a_thread_is_created_changed_closed_and_opened(
    client: httpx.AsyncClient, name: str
) -> None:
    made = await done(client, "threads", thread=name, topic="plans")
    assert (made["created"], made["thread"]["topic"]) == (True, "plans")
    assert not (await done(client, "threads", thread=name))["created"]
    changed = await done(client, f"threads/{name}", topic="more plans", stage="review")
    assert (changed["topic"], changed["stage"]) == ("more plans", "review")
    assert (await done(client, f"threads/{name}", state="closed"))["state"] == "THREAD_STATE_CLOSED"
    assert await refused(client, "post", thread=name, text="x") == (409, "THREAD_CLOSED")
    assert (await done(client, f"threads/{name}", state="open"))["state"] == "THREAD_STATE_OPEN"
    for change in ({}, {"state": "archived"}, {"state": "open", "topic": "x"}, {"name": "x"}):
        assert (await refused(client, f"threads/{name}", **change))[0] == 400, change
    assert (await refused(client, "threads", thread="a b"))[0] == 400


async def test_only_operators_have_an_operators_controls(
    client: httpx.AsyncClient, boss: httpx.AsyncClient, bus: BusClient
) -> None:
    assert (await boss.get("api/me")).json()["operator"]
    assert (await client.get("api/waits")).status_code == 403
    for action in ("kick", "reset"):
        assert (await refused(client, f"agents/{bus.agent}", action=action))[0] == 403
    assert isinstance((await boss.get("api/waits")).json(), list)
    assert await done(boss, f"agents/{bus.agent}", action="kick") == {}
    token = (await done(boss, f"agents/{bus.agent}", action="reset"))["token"]
    async with BusClient(bus.server, token=token) as again:
        assert again.agent == bus.agent
    assert (await refused(boss, f"agents/{bus.agent}", action="delete"))[0] == 400
    assert await refused(boss, "agents/nobody-here", action="kick") == (404, "AGENT_NOT_FOUND")


async def test_a_cookie_of_one_console_does_not_open_another(
    console: ConsoleProcess, operators: ConsoleProcess
) -> None:
    async with browser(console) as own, httpx.AsyncClient(base_url=operators.url) as other:
        (value,) = own.cookies.values()
        other.cookies.set(f"threadbus-{httpx.URL(operators.url).port}", value)
        assert (await other.get("api/me")).status_code == 401
