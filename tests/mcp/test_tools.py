"""What each tool does on the bus, and says to a model."""

from collections.abc import AsyncIterator, Awaitable
from functools import partial

import pytest

from bus_client import AgentKind, Attachment, BusClient, MessageFilter, Presence, Priority
from tests.mcp.host import Host, bridge_here
from tests.polling import until_known
from tests.serving import ServerProcess

pytestmark = pytest.mark.asking_server


async def read_seq(bus: BusClient, thread: str, agent: str) -> int:
    """Returns up to where the agent has read the thread."""
    (found,) = [
        each async for each in bus.thread(thread).list_participants() if each.agent == agent
    ]
    return found.read_seq


async def has_presence(bus: BusClient, agent: str, wanted: Presence.ValueType) -> bool:
    return (await bus.get_agent(agent)).presence == wanted


async def test_joining_creates_a_thread_and_says_so(host: Host, name: str) -> None:
    text = await host.call("bus_join", thread=name)
    assert text == f"new thread; nobody will see this yet\nHere: {name}-me idle (read #0)"


async def test_joining_shows_topic_people_and_the_last_messages(
    host: Host, peer: BusClient, name: str
) -> None:
    thread = await peer.join(name, topic="the new API")
    for number in range(1, 5):
        await thread.post(f"message {number}")
    first, here, *messages = (await host.call("bus_join", thread=name, history=2)).splitlines()
    assert first == f"{name}, open, newest #4: the new API"
    assert here == f"Here: {name}-me idle (read #4), {name}-peer idle (read #4)"
    assert messages == [f"#3 {name}-peer: message 3", f"#4 {name}-peer: message 4"]
    assert "#1" not in await host.call("bus_join", thread=name, history=0)


async def test_joining_again_says_what_is_unread(host: Host, peer: BusClient, name: str) -> None:
    await host.call("bus_join", thread=name)
    await peer.thread(name).post("one")
    text = await host.call("bus_join", thread=name)
    assert "You have read it to #0; bus_wait returns the 1 after it." in text
    assert await host.call("bus_wait") == f"{name} #1 {name}-peer: one"


async def test_a_post_tells_who_will_see_it(host: Host, peer: BusClient, name: str) -> None:
    await peer.join(name)
    text = await host.call("bus_post", thread=name, text=f"hello @{name}-peer")
    assert text == f"posted {name} #1 · {name}-peer idle (read #0)"
    (message,) = await peer.thread(name).messages()
    assert list(message.mentions) == [f"{name}-peer"]


async def test_a_post_has_all_that_it_was_given(host: Host, peer: BusClient, name: str) -> None:
    thread = await peer.join(name)
    await thread.post("which one?")
    await host.call(
        "bus_post",
        thread=name,
        text="this one",
        mentions=f"@{name}-peer",
        reply_to="1",
        handoff_to=f"{name}-peer",
        priority="urgent",
        expect_seq=1,
    )
    message = await thread.message(2)
    assert message.content == "this one"
    assert message.reply_to == 1
    assert message.handoff_to == f"{name}-peer"
    assert message.priority == Priority.PRIORITY_URGENT
    assert list(message.mentions) == [f"{name}-peer"]
    refused = await host.refused("bus_post", text="again", expect_seq=1)
    assert refused.startswith("expect_seq is 1, but the thread is at 2")
    assert "bus_wait or bus_read" in refused
    assert (await thread.refresh()).head_seq == 2


async def test_names_in_the_text_that_are_nobodys_are_reported(host: Host, name: str) -> None:
    await host.call("bus_join", thread=name)
    text = await host.call("bus_post", text=f"ask @{name}-none; `@{name}-code` is code")
    assert f"@{name}-none is not a registered agent" in text
    assert "code" not in text


async def test_a_post_into_no_thread_creates_none(host: Host, peer: BusClient, name: str) -> None:
    assert await host.refused("bus_post", text="hello") == (
        "thread is required: none was used yet. bus_who lists the threads."
    )
    assert "bus_join creates it" in await host.refused("bus_post", thread=name, text="hello")
    assert [found async for found in peer.list_threads(prefix=name)] == []


async def test_a_failed_call_does_not_change_the_thread_in_use(host: Host, name: str) -> None:
    await host.call("bus_join", thread=name)
    for tool in ("bus_read", "bus_wait", "bus_who"):
        await host.refused(tool, thread=f"{name}-mistyped")
    await host.refused("bus_post", thread=f"{name}-mistyped", text="wrong")
    assert f"posted {name} #1" in await host.call("bus_post", text="right")


async def test_a_wait_returns_what_is_unread_at_once_and_then_what_comes(
    host: Host, peer: BusClient, name: str
) -> None:
    await host.call("bus_join", thread=name)
    thread = await peer.join(name)
    await thread.post("unread")
    assert await host.call("bus_wait", thread=name) == f"#1 {name}-peer: unread"
    waiting = host.start_call("bus_wait", thread=name)
    await until_known(partial(has_presence, peer, f"{name}-me", Presence.PRESENCE_WAITING))
    await thread.post("new", reply_to=1)
    assert (await host.answer(waiting)).text == f"#2 {name}-peer re #1: new"


async def test_a_wait_without_a_thread_is_on_all_of_them(
    host: Host, peer: BusClient, name: str
) -> None:
    for thread in (f"{name}-1", f"{name}-2"):
        await host.call("bus_join", thread=thread)
        await peer.thread(thread).post(f"in {thread}")
    text = await host.call("bus_wait")
    assert sorted(text.splitlines()) == [
        f"{name}-1 #1 {name}-peer: in {name}-1",
        f"{name}-2 #1 {name}-peer: in {name}-2",
    ]
    assert "No messages in your threads within 0 s" in await host.call("bus_wait", timeout_s=0)


async def test_a_mention_brings_a_thread_that_was_never_joined(
    host: Host, peer: BusClient, name: str
) -> None:
    await host.call("bus_who")  # registers the agent
    assert "call bus_join" in await host.call("bus_wait", timeout_s=0)
    thread = await peer.join(name)
    for text in ("before", f"@{name}-me, come", "after"):
        await thread.post(text, mentions=[f"{name}-me"] if "come" in text else [])
    assert f"{name} #2 {name}-peer @{name}-me: @{name}-me, come" in await host.call("bus_wait")


@pytest.mark.parametrize("tool", ["bus_join", "bus_wait"])
async def test_who_joins_after_a_mention_still_gets_it(
    host: Host, peer: BusClient, name: str, tool: str
) -> None:
    await host.call("bus_who")
    thread = await peer.join(name)
    for number in range(1, 4):
        await thread.post(f"{number}", mentions=[f"{name}-me"] if number == 2 else [])
    if tool == "bus_join":
        await host.call("bus_join", thread=name, history=1)
    text = await host.call("bus_wait", thread=name)
    assert [line.split()[0] for line in text.splitlines()] == ["#1", "#2", "#3"]


async def test_a_long_backlog_can_be_skipped(host: Host, peer: BusClient, name: str) -> None:
    await host.call("bus_join", thread=name)
    thread = await peer.join(name)
    async for _ in thread.post_many(str(number) for number in range(1, 102)):
        pass
    text = await host.call("bus_wait")
    assert len(text.splitlines()) == 51
    assert "bus_join with catch_up to skip it" in text
    text = await host.call("bus_join", thread=name, history=1)
    assert "bus_wait returns the 101 after it." in text
    text = await host.call("bus_join", thread=name, history=1, catch_up=True)
    assert text.splitlines()[2:] == [f"#101 {name}-peer: 101"]
    assert "No messages" in await host.call("bus_wait", timeout_s=0)
    await thread.post("new")
    assert await host.call("bus_wait") == f"{name} #102 {name}-peer: new"


async def test_only_what_is_addressed(host: Host, peer: BusClient, name: str) -> None:
    await host.call("bus_join", thread=name)
    thread = await peer.join(name)
    for number in range(1, 4):
        await thread.post(f"{number}", mentions=[f"{name}-me"] if number == 2 else [])
    text = await host.call("bus_wait", mentions_only=True)
    assert text == f"{name} #2 {name}-peer @{name}-me: 2"
    await host.call("bus_post", text="done")  # must not count the first one as read
    assert await read_seq(peer, name, f"{name}-me") == 0
    text = await host.call("bus_wait", timeout_s=0)
    assert [line.split()[1] for line in text.splitlines()] == ["#1", "#2", "#3"]


async def test_messages_are_described_in_their_first_line(
    host: Host, peer: BusClient, name: str
) -> None:
    thread = await peer.join(name)
    await host.call("bus_join", thread=name)
    file = Attachment(filename="notes.txt", media_type="text/plain", raw=b"12345")
    await thread.post("look", attachments=[file], priority=Priority.PRIORITY_HIGH)
    await thread.post("look here", edit_of=1)
    await thread.update(topic="new")
    text = await host.call("bus_wait")
    assert f"{name} #1 {name}-peer (edited in #2) high priority: look\n" in text
    assert "  [file notes.txt, 5 bytes, not shown]" in text
    assert f"{name} #2 {name}-peer edit of #1: look here" in text
    assert f"{name} #3 thread changed by {name}-peer" in text


async def test_reading_moves_nothing(host: Host, peer: BusClient, name: str) -> None:
    await host.call("bus_join", thread=name)
    thread = await peer.join(name)
    for number in range(1, 31):
        await thread.post(f"{number}")
    text = await host.call("bus_read")
    assert [line.split()[0] for line in text.splitlines()] == [f"#{n}" for n in range(11, 31)]
    text = await host.call("bus_read", after_seq=3, limit=2)
    assert text.splitlines() == [
        f"#4 {name}-peer: 4",
        f"#5 {name}-peer: 5",
        "Continue with after_seq=5.",
    ]
    assert await host.call("bus_read", after_seq=30) == f"No messages in {name} after #30."
    assert await read_seq(peer, name, f"{name}-me") == 0
    assert f"#1 {name}-peer: 1" in await host.call("bus_wait", thread=name)


async def test_who_shows_people_questions_threads_and_what_is_unread(
    host: Host, peer: BusClient, name: str
) -> None:
    await host.call("bus_join", thread=name)
    thread = await peer.join(name)
    await thread.post("ready?", ask=[f"{name}-me"], within=3_600)
    text = await host.call("bus_who")
    assert f"{name}, open, newest #1" in text
    assert f"{name}-peer idle (read #1)" in text
    assert f"{name} #1  {name}-peer asks {name}-me" in text
    assert f"Unread in {name}: #1, 1 for you" in text
    asked = await host.call("bus_wait")
    assert asked == f"{name} #1 {name}-peer asks you (answer with reply_to=1): ready?"
    assert f"{name}-me working" in await host.call("bus_who")
    await host.call("bus_post", text="yes", reply_to=1)
    text = await host.call("bus_who")
    assert "Questions" not in text
    assert f"{name}-me idle (read #2)" in text


async def test_a_question_is_answered_or_a_notice_says_that_it_will_not_be(
    host: Host, peer: BusClient, name: str
) -> None:
    thread = await peer.join(name)
    await host.call("bus_join", thread=name)
    await host.call("bus_post", text="ready?", ask=True, mentions=[f"{name}-peer"], within_s=0.01)
    assert await host.call("bus_wait") == (
        f"{name} #2 notice of the bus: {name}-peer has not answered message 1 in time"
    )
    await thread.post("yes", reply_to=1)
    assert await host.call("bus_wait") == f"{name} #3 {name}-peer re #1: yes"
    assert "ask needs mentions" in await host.refused("bus_post", text="ready?", ask=True)
    misspelt = await host.refused("bus_post", text=f"@{name}-par, ready?", ask=True)
    assert misspelt.startswith(f"@{name}-par is not a registered agent")
    assert "needs ask" in await host.refused("bus_post", text="ready?", within_s=3)


async def test_a_post_that_is_no_answer_says_that_one_is_owed(
    host: Host, peer: BusClient, name: str
) -> None:
    await host.call("bus_join", thread=name)
    await peer.thread(name).post("ready?", ask=[f"{name}-me"])
    await host.call("bus_wait")
    owed = f"{name}-peer still waits for your answer to #1: post it with reply_to=1."
    assert owed in await host.call("bus_post", text="yes")
    assert owed not in await host.call("bus_post", text="yes", reply_to=1)
    assert owed not in await host.call("bus_post", text="and more")


@pytest.mark.slow
async def test_two_waits_at_once_are_refused_and_harm_nothing(host: Host, name: str) -> None:
    await host.call("bus_join", thread=name)
    first = host.start_call("bus_wait", timeout_s=1)
    assert "You are already waiting on all your threads." in await host.refused("bus_wait")
    assert "already waiting" in await host.refused("bus_wait", thread=name)
    assert "No messages" in (await host.answer(first)).text


async def test_an_agent_is_waiting_working_idle_and_gone(
    server: ServerProcess, peer: BusClient, name: str
) -> None:
    def presence(wanted: Presence.ValueType) -> Awaitable[bool]:
        return has_presence(peer, f"{name}-me", wanted)

    async with bridge_here(server.address, f"{name}-me", thread=name) as host:
        await host.call("bus_who")
        assert await presence(Presence.PRESENCE_IDLE)
        waiting = host.start_call("bus_wait")
        await until_known(lambda: presence(Presence.PRESENCE_WAITING))
        await peer.thread(name).post("work")
        await host.answer(waiting)
        assert await presence(Presence.PRESENCE_WORKING)
        await host.call("bus_post", text="done")
        assert await presence(Presence.PRESENCE_IDLE)
    assert await presence(Presence.PRESENCE_OFFLINE)


async def test_the_default_thread_is_joined_with_the_first_call(
    server: ServerProcess, peer: BusClient, name: str
) -> None:
    async with bridge_here(server.address, f"{name}-me", thread=name) as host:
        assert f"in thread {name}" in (await host.request("initialize"))["result"]["instructions"]
        assert "No messages in your threads" in await host.call("bus_wait", timeout_s=0)
        await peer.thread(name).post("hello")
        assert await host.call("bus_wait") == f"{name} #1 {name}-peer: hello"
        assert f"posted {name} #2" in await host.call("bus_post", text="hello")


async def test_a_new_default_thread_is_compared_to_those_there_are(
    server: ServerProcess, peer: BusClient, name: str
) -> None:
    await peer.join(name)
    other = name.upper()
    async with bridge_here(server.address, f"{name}-me", thread=other) as host:
        assert f"It is new; there is also {name}." in await host.call("bus_join", thread=other)
        assert "It is new" not in await host.call("bus_join", thread=other)


@pytest.mark.own_server
@pytest.mark.slow
async def test_without_threads_it_says_how_to_begin(host: Host) -> None:
    assert await host.call("bus_who") == "There is no thread yet: bus_join creates one."


@pytest.fixture
async def second(server: ServerProcess, name: str) -> AsyncIterator[Host]:
    async with bridge_here(server.address, f"{name}-me") as opened:
        yield opened


async def test_two_bridges_with_one_name_are_told(host: Host, second: Host, name: str) -> None:
    await second.call("bus_join", thread=name)
    assert "Another process" not in await host.call("bus_join", thread=name)
    waiting = second.start_call("bus_wait", thread=name, timeout_s=60)

    async def is_told() -> bool:
        return "Another process waits" in await host.call("bus_who")

    await until_known(is_told)
    await host.call("bus_post", text="mine")  # no message of another agent
    second.cancel(waiting)


async def test_people_are_marked(host: Host, server: ServerProcess, name: str) -> None:
    token = (server.db.parent / f"{server.db.name}.operator-token").read_text().strip()
    async with BusClient(server.address, token=token) as operator:
        _, secret = await operator.register_agent(f"{name}-ann", kind=AgentKind.AGENT_KIND_HUMAN)
    await host.call("bus_join", thread=name)
    async with BusClient(server.address, agent=f"{name}-ann", token=secret) as ann:
        await ann.thread(name).post("stop")
    assert await host.call("bus_wait", thread=name) == f"#1 {name}-ann (human): stop"
    assert f"{name}-ann (human)" in await host.call("bus_who")


async def test_own_messages_are_not_returned(host: Host, peer: BusClient, name: str) -> None:
    await host.call("bus_join", thread=name)
    await host.call("bus_post", text="mine")
    await peer.thread(name).post("yours")
    assert await host.call("bus_wait", thread=name) == f"#2 {name}-peer: yours"
    found = await peer.thread(name).messages(filter=MessageFilter(senders=[f"{name}-me"]))
    assert [each.seq for each in found] == [1]


async def test_a_post_says_that_others_came_before_it(
    host: Host, peer: BusClient, name: str
) -> None:
    await host.call("bus_join", thread=name)
    assert "before" not in await host.call("bus_post", text="first")
    await peer.thread(name).post("meanwhile")
    assert "You have not read all that is before #3: call bus_wait." in await host.call(
        "bus_post", text="second"
    )
    assert await host.call("bus_wait") == f"{name} #2 {name}-peer: meanwhile"
    text = await host.call("bus_post", text="third")
    assert "before" not in text
