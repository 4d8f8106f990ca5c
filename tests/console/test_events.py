"""The stream of events of a page: live, whole, and resumed where it was left."""

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from bus_client import BusClient, Presence, Retention
from tests.callers import operator_token_file
from tests.console.consoles import PERSON, ConsoleProcess, browser, cookie_until, events
from tests.polling import until_known
from tests.serving import ServerProcess

pytestmark = pytest.mark.slow


async def test_a_page_follows_from_the_head(
    client: httpx.AsyncClient, bus: BusClient, name: str
) -> None:
    thread = await bus.join(name, topic="plans")
    await thread.post("before")
    async with events(client, name) as stream:
        overview = await stream.next(
            "overview", lambda data: name in [each["name"] for each in data["threads"]]
        )
        assert overview.data.keys() == {"threads", "requests", "unread", "live", "signed_out"}
        assert overview.data["live"]
        shown = (await stream.next("thread")).data
        assert (shown["thread"]["topic"], shown["thread"]["head_seq"]) == ("plans", 1)
        posted = await thread.post("live", mentions=[PERSON])
        event = await stream.next("messages")
        assert [message["content"] for message in event.data] == ["live"]
        assert event.id == f"{posted.epoch}:2"


async def test_a_page_resumes_at_its_last_event(
    client: httpx.AsyncClient, bus: BusClient, name: str
) -> None:
    thread = await bus.join(name)
    for seq in range(1, 6):
        posted = await thread.post(str(seq))
    # What the browser remembers is newer than the address.
    last, after = f"{posted.epoch}:3", f"{posted.epoch}:1"
    async with events(client, name, after=after, last=last) as stream:
        assert [each["seq"] for each in await stream.messages(5)] == [4, 5]
    async with events(client, name, after=after) as stream:
        assert [each["seq"] for each in await stream.messages(5)] == [2, 3, 4, 5]
    async with events(client, name, after=f"{posted.epoch}:0") as stream:
        assert [each["seq"] for each in await stream.messages(5)] == [1, 2, 3, 4, 5]


async def test_a_page_that_resumes_behind_gets_what_is_kept(
    client: httpx.AsyncClient, bus: BusClient, name: str
) -> None:
    await bus.create_thread(name, retention=Retention(max_messages=2))
    thread = bus.thread(name)
    for seq in range(1, 6):
        posted = await thread.post(str(seq))

    async def removed() -> bool:
        return (await thread.refresh()).first_seq == 4

    await until_known(removed)
    async with events(client, name, after=f"{posted.epoch}:1") as stream:
        assert [each["seq"] for each in await stream.messages(5)] == [4, 5]
        await thread.post("live")
        assert [each["seq"] for each in await stream.messages(6)] == [6]


async def test_a_burst_comes_in_batches_whole_and_in_order(
    client: httpx.AsyncClient, bus: BusClient, name: str
) -> None:
    thread = await bus.join(name)
    async with events(client, name) as stream:
        await stream.next("thread")

        async def post() -> None:
            async for _ in thread.post_many(str(seq) for seq in range(5_000)):
                pass

        posting = asyncio.create_task(post())
        batches, seqs = 0, list[int]()
        while len(seqs) < 5_000:
            batch = (await stream.next("messages")).data
            assert len(batch) <= 200
            seqs += [message["seq"] for message in batch]
            batches += 1
        await posting
    assert seqs == list(range(1, 5_001))
    assert batches < 1_000


async def test_large_messages_come_few_at_a_time(
    client: httpx.AsyncClient, bus: BusClient, name: str
) -> None:
    thread = await bus.join(name)
    async for _ in thread.post_many("x" * 100_000 for _ in range(50)):
        pass
    epoch = (await bus.get_thread(name)).epoch
    async with events(client, name, after=f"{epoch}:0") as stream:
        seen = 0
        while seen < 50:
            batch = (await stream.next("messages")).data
            assert sum(len(message["content"]) for message in batch) <= 256 * 1024
            seen += len(batch)


async def test_a_page_far_behind_starts_again(
    client: httpx.AsyncClient, bus: BusClient, name: str
) -> None:
    thread = await bus.join(name)
    async for _ in thread.post_many("x" for _ in range(10_001)):
        pass
    epoch = (await bus.get_thread(name)).epoch
    async with events(client, name, after=f"{epoch}:0") as stream:
        assert (await stream.rest())[-1].data == {"epoch": epoch, "head": 10_001}


@pytest.mark.parametrize("after", ["other:1", "EPOCH:7"])
async def test_a_page_with_another_history_starts_again(
    client: httpx.AsyncClient, bus: BusClient, name: str, after: str
) -> None:
    thread = await bus.join(name)
    epoch = (await thread.post("x")).epoch
    async with events(client, name, after=after.replace("EPOCH", epoch)) as stream:
        last = (await stream.rest())[-1]
        assert (last.kind, last.data) == ("resync", {"epoch": epoch, "head": 1})


async def test_changes_of_a_thread_and_its_people_are_shown(
    client: httpx.AsyncClient, bus: BusClient, name: str
) -> None:
    thread = await bus.join(name)
    async with events(client, name) as stream:
        await stream.next("thread", lambda data: len(data["participants"]) == 1)
        await bus.heartbeat(state=Presence.PRESENCE_WORKING)
        working = "PRESENCE_WORKING"
        shown = await stream.next(
            "thread", lambda data: data["participants"][0]["presence"] == working
        )
        assert shown.data["participants"][0]["agent"] == bus.agent
        await thread.update(topic="new")
        await stream.next("thread", lambda data: data["thread"]["topic"] == "new")
        await client.post(f"api/threads/{name}", json={"state": "closed"})
        closed = "THREAD_STATE_CLOSED"
        await stream.next("thread", lambda data: data["thread"]["state"] == closed)
        await client.post(f"api/threads/{name}", json={"state": "open"})
        await stream.next("thread", lambda data: data["thread"]["state"] != closed)
        await thread.post("again")
        assert (await stream.next("messages", lambda data: "content" in data[-1])).data
        await thread.leave()
        await stream.next("thread", lambda data: not data["participants"])


async def test_a_thread_that_is_not_there_is_shown_once_it_is(
    client: httpx.AsyncClient, bus: BusClient, name: str
) -> None:
    async with events(client, name) as stream:
        refused = (await stream.next("refused")).data
        assert refused["reason"] == "THREAD_NOT_FOUND"
        assert refused["message"]
        thread = await bus.join(name)
        await stream.next("thread")
        await thread.post("first")
        await stream.messages(1)


async def test_a_thread_that_is_deleted_and_created_again_starts_again(
    client: httpx.AsyncClient, bus: BusClient, name: str
) -> None:
    thread = await bus.join(name)
    async with events(client, name) as stream:
        await stream.next("thread")
        await thread.post("old")
        await stream.messages(1)
        await thread.delete()
        assert (await stream.next("refused")).data["reason"] == "THREAD_NOT_FOUND"
        await bus.join(name)
        assert (await stream.next("resync")).data["head"] == 0
    bad = "/etc/passwd"
    async with events(client, bad) as stream:
        assert (await stream.next("refused")).data["message"]


async def test_the_overview_shows_what_asks_for_the_person(
    client: httpx.AsyncClient, bus: BusClient, name: str
) -> None:
    thread = await bus.join(name)
    async with events(client) as stream:
        await stream.next("overview")
        await thread.post("?", mentions=[PERSON], ask=True)

        def asked(data: dict[str, list[dict[str, object]]]) -> bool:
            unread = {each["thread"] for each in data["unread"]}
            fields = ("thread", "seq", "asker", "agent", "overdue")
            requests = [tuple(each[field] for field in fields) for each in data["requests"]]
            return name in unread and (name, 1, bus.agent, PERSON, False) in requests

        await stream.next("overview", asked)
        await client.post("api/post", json={"thread": name, "text": "!", "reply_to": 1})
        await stream.next("overview", lambda data: not asked(data))


async def test_of_the_overview_only_changes_are_sent(
    client: httpx.AsyncClient, bus: BusClient, name: str
) -> None:
    names = [f"{name}-{number}" for number in range(4)]
    threads = [await bus.join(each) for each in names]

    def posted(data: dict[str, Any]) -> set[str]:
        return {*names} & {each["name"] for each in data["threads"] if each["head_seq"]}

    async with events(client) as stream:
        await stream.next(
            "overview", lambda data: {*names} <= {each["name"] for each in data["threads"]}
        )
        first = len(stream.raw)
        for number, thread in enumerate((threads[2], threads[0]), 1):
            await thread.post("x")
            while len(posted((shown := await stream.next("overview")).data)) < number:
                pass
            changes = stream.raw[-1]
            assert changes.kind == "changes"
            assert [each["name"] for _, each in changes.data["threads"]["put"]] == [thread.name]
        assert "overview" not in [event.kind for event in stream.raw[first:]]
        await threads[1].delete()
        shown = await stream.next(
            "overview", lambda data: names[1] not in [each["name"] for each in data["threads"]]
        )
    async with events(client) as stream:
        whole = (await stream.next("overview")).data
        assert stream.raw[-1].kind == "overview"
    assert [each["name"] for each in whole["threads"]] == [
        each["name"] for each in shown.data["threads"]
    ]
    assert whole.keys() == shown.data.keys()


async def test_a_stream_ends_with_the_login(
    console: ConsoleProcess, server: ServerProcess, home: Path, bus: BusClient, name: str
) -> None:
    await bus.join(name)
    cookies = dict([cookie_until(time.time() + 3, console, home, server)])
    async with httpx.AsyncClient(base_url=console.url, cookies=cookies, timeout=30) as client:
        async with events(client, name) as stream:
            await stream.next("thread")
            assert (await stream.rest())[-1].kind == "logged_out"
        assert (await client.get("api/me")).status_code == 401


async def test_a_console_of_an_agent_only_watches(
    server: ServerProcess, tmp_path: Path, bus: BusClient, name: str
) -> None:
    agent, credentials = f"{name}-b", tmp_path / "threadbus/credentials.json"
    working = Presence.PRESENCE_WORKING
    async with BusClient(server.address, agent=agent, credentials=credentials) as itself:
        await itself.join(name)
        await itself.heartbeat(state=working, lease=3_600)
    thread = await bus.join(name)
    with ConsoleProcess(server.address, tmp_path, "--as", agent) as console:
        async with browser(console) as client, events(client, name) as stream:
            assert (await client.get("api/me")).json()["kind"] == "agent"
            await stream.next("thread", lambda data: len(data["participants"]) == 2)
            posted = await thread.post("x", mentions=[agent], include_recipients=True)
            assert [each.presence for each in posted.recipients] == [working]
            await stream.messages(1)
            cursor = {"thread": name, "cursor": f"{posted.epoch}:1"}
            assert (await client.post("api/read", json=cursor)).json() == {}
            found = (await bus.join(name)).participants
            (shown,) = [each for each in found if each.agent == agent]
            assert (shown.presence, shown.read_seq, shown.waiting) == (working, 0, False)
        console.stop()
    assert (await bus.get_agent(agent)).presence == working


async def test_pages_share_one_wait_and_closed_pages_cost_nothing(
    console: ConsoleProcess, server: ServerProcess, bus: BusClient, name: str
) -> None:
    await bus.join(name)
    token = operator_token_file(server.db).read_text("ascii").strip()
    async with BusClient(server.address, token=token) as boss, AsyncExitStack() as pages:
        for _ in range(20):
            client = await pages.enter_async_context(browser(console))
            stream = await pages.enter_async_context(events(client, name))
            await stream.next("thread")
        waits = [wait async for wait in boss.list_waits(thread=name)]
        assert [wait.agent for wait in waits] == [PERSON]
        await pages.aclose()

        async def ended() -> bool:
            return not [wait async for wait in boss.list_waits(thread=name)]

        await until_known(ended, within=50)

        async def silent() -> bool:  # nor does the console ask for anything
            before = (await bus.get_agent(PERSON)).last_seen_time
            await asyncio.sleep(2)
            return (await bus.get_agent(PERSON)).last_seen_time == before

        await until_known(silent, within=50)
