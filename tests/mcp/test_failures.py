"""What a model is told when the bus fails it, and what it has to do next."""

import asyncio
import signal
from pathlib import Path

import pytest

from bus_client import BusClient, ThreadState
from tests.conftest import StartServer
from tests.mcp.host import BOUND, Host, bridge_here
from tests.polling import until_known
from tests.ports import free_port
from tests.serving import ServerProcess


async def is_awaited(bus: BusClient, thread: str) -> bool:
    """Returns whether an agent waits on the thread."""
    return any([each.waiting async for each in bus.thread(thread).list_participants()])


UNREACHABLE = "Go on without the bus, try again later, and tell your user if it stays so."


@pytest.mark.slow
async def test_without_a_server_the_tools_are_there_and_calls_say_so(
    start_server: StartServer, name: str
) -> None:
    address = f"127.0.0.1:{free_port()}"
    async with bridge_here(address, f"{name}-me") as host:
        tools = (await host.request("tools/list"))["result"]["tools"]
        assert len(tools) == 5
        waiting, joining = host.start_call("bus_wait"), host.start_call("bus_join", thread=name)
        for number in (waiting, joining):
            text, failed = await host.answer(number)
            assert failed
            assert text.endswith(UNREACHABLE)
        start_server(listen=address)
        assert "new thread" in await host.call("bus_join", thread=name)


@pytest.mark.slow
@pytest.mark.own_server
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=str)
async def test_a_wait_goes_on_over_a_restart(
    server: ServerProcess, host: Host, name: str, number: signal.Signals
) -> None:
    await host.call("bus_join", thread=name)
    waiting = host.start_call("bus_wait", timeout_s=60)
    async with BusClient(server.address, agent=f"{name}-peer") as peer:
        await until_known(lambda: is_awaited(peer, name))
        server.signal(number)
        await asyncio.to_thread(server.kill)
        server.start()
        await peer.thread(name).post("back")
        assert (await host.answer(waiting)).text == f"{name} #1 {name}-peer: back"


@pytest.mark.slow
@pytest.mark.own_server
async def test_a_post_whose_answer_was_lost_is_stored_once_if_it_is_repeated(
    server: ServerProcess, host: Host, name: str
) -> None:
    await host.call("bus_join", thread=name)
    server.signal(signal.SIGSTOP)
    text = await host.refused("bus_post", text="once")
    assert "Call bus_read for the newest messages before you repeat it." in text
    server.signal(signal.SIGCONT)
    assert f"posted {name} #1" in await host.call("bus_post", text="once")
    assert f"posted {name} #2" in await host.call("bus_post", text="once")  # a new one


@pytest.mark.own_server
@pytest.mark.sqlite
@pytest.mark.slow
async def test_a_new_store_is_noticed(server: ServerProcess, host: Host, name: str) -> None:
    await host.call("bus_join", thread=name)
    await host.call("bus_post", text="old")
    server.kill()
    for file in server.db.parent.glob(f"{server.db.name}*"):
        if file.is_file():
            file.unlink()
    server.start()
    text = await host.call("bus_wait", timeout_s=0)
    assert text.startswith(f"You are no longer in {name}: deleted, or the bus has a new store.")
    assert "new thread" in await host.call("bus_join", thread=name)
    assert f"posted {name} #1" in await host.call("bus_post", text="new")


async def test_a_name_that_is_taken(host: Host, peer: BusClient, name: str) -> None:
    _, _ = await peer.register_agent(f"{name}-me")
    text = await host.refused("bus_join", thread=name)
    assert text.endswith("Tell your user to configure another name (threadbus mcp --as NAME).")


async def test_a_thread_that_is_closed(host: Host, peer: BusClient, name: str) -> None:
    thread = await peer.join(name)
    await host.call("bus_join", thread=name)
    await thread.post("last")
    await thread.set_state(ThreadState.THREAD_STATE_CLOSED)
    text = await host.call("bus_wait", thread=name)
    assert f"#1 {name}-peer: last" in text
    for tool in ("bus_wait", "bus_post"):
        text = await host.refused(tool, thread=name, **({"text": "x"} if "post" in tool else {}))
        assert text.endswith("Stop waiting on it and tell your user.")
    assert f"#1 {name}-peer: last" in await host.call("bus_read", thread=name)
    assert "No messages" in await host.call("bus_wait", timeout_s=0)


async def test_a_thread_that_is_closed_during_a_wait(
    host: Host, peer: BusClient, name: str
) -> None:
    thread = await peer.join(name)
    await host.call("bus_join", thread=name)
    waiting = host.start_call("bus_wait", thread=name)

    await until_known(lambda: is_awaited(peer, name))
    await thread.set_state(ThreadState.THREAD_STATE_CLOSED)
    text, failed = await host.answer(waiting)
    assert failed != ("thread changed by" in text)


async def test_a_thread_that_is_deleted(host: Host, peer: BusClient, name: str) -> None:
    thread = await peer.join(name)
    await host.call("bus_join", thread=name)
    await thread.delete()
    for tool in ("bus_read", "bus_who", "bus_wait"):
        text = await host.refused(tool, thread=name)
        assert text.endswith("bus_join creates it; bus_who lists the threads.")
    text = await host.call("bus_wait", timeout_s=0)
    assert text == "You take part in no thread, and nobody mentioned you: call bus_join."


async def test_a_wait_on_all_threads_tells_which_one_was_deleted(
    host: Host, peer: BusClient, name: str
) -> None:
    thread = await peer.join(name)
    await host.call("bus_join", thread=name)
    await thread.delete()
    text = await host.call("bus_wait", timeout_s=0)
    assert text.startswith(f"You are no longer in {name}: deleted,")


async def test_a_default_thread_that_is_deleted_stays_deleted(
    server: ServerProcess, peer: BusClient, name: str
) -> None:
    thread = await peer.join(name)
    async with bridge_here(server.address, f"{name}-me", thread=name) as host:
        await host.call("bus_who")
        await thread.delete()
        assert "You are no longer in" in await host.call("bus_wait", timeout_s=0)
        await host.refused("bus_who")
        assert [found async for found in peer.list_threads(prefix=name)] == []


async def test_a_default_thread_that_cannot_be_joined_leaves_the_others_usable(
    server: ServerProcess, name: str
) -> None:
    async with bridge_here(server.address, f"{name}-me", thread="no name") as host:
        assert "thread: 1–128 characters" in await host.refused("bus_post", text="lost")
        await host.call("bus_join", thread=name)
        assert f"posted {name} #1" in await host.call("bus_post", text="here")


async def test_a_thread_that_is_deleted_and_created_again(
    host: Host, peer: BusClient, name: str
) -> None:
    thread = await peer.join(name)
    await thread.post("old")
    await thread.post("old")
    await host.call("bus_join", thread=name)
    await thread.delete()
    await (await peer.join(name)).post("new")
    text = await host.refused("bus_post", text="to the old one", thread=name)
    assert "Call bus_join again" in text
    assert f"#1 {name}-peer: new" in await host.call("bus_join", thread=name)
    assert f"posted {name} #2" in await host.call("bus_post", text="to the new one")


@pytest.mark.parametrize("why", ["kicked", "goodbye"])
async def test_a_wait_that_is_ended_says_so(
    host: Host, peer: BusClient, server: ServerProcess, name: str, why: str
) -> None:
    await host.call("bus_join", thread=name)
    waiting = host.start_call("bus_wait", timeout_s=60)

    await until_known(lambda: is_awaited(peer, name))
    if why == "kicked":
        token = Path(f"{server.db}.operator-token").read_text().strip()
        async with BusClient(server.address, token=token) as operator:
            await operator.kick(f"{name}-me")
    else:
        async with BusClient(server.address, agent=f"{name}-me", heartbeats=False) as other:
            await other.end_session()
    text, failed = await host.answer(waiting)
    assert not failed
    assert "the wait was ended" in text


#: Arguments that are refused, and words of the refusal.
WRONG = [
    ("bus_post", {}, "text is required."),
    ("bus_post", {"text": ""}, "text is required."),
    ("bus_post", {"text": None}, "text is required."),
    ("bus_post", {"text": 3}, "text must be a string."),
    ("bus_post", {"text": "x", "mentions": [1]}, "mentions must be a list of names."),
    ("bus_post", {"text": "x", "mentions": ["No One"]}, "Correct it and call the tool again."),
    ("bus_post", {"text": "x", "mentions": [f"a{n}" for n in range(33)]}, "mentions"),
    ("bus_post", {"text": "x", "reply_to": -1}, "reply_to must be a whole number"),
    ("bus_post", {"text": "x", "reply_to": 2**63}, "reply_to must be a whole number"),
    ("bus_post", {"text": "x", "reply_to": 1.5}, "reply_to must be a whole number"),
    ("bus_post", {"text": "x", "reply_to": 9}, "bus_read shows"),
    ("bus_post", {"text": "x", "priority": "asap"}, "must be one of: low, normal, high, urgent."),
    ("bus_post", {"text": "x", "ask": "maybe"}, "ask must be true or false."),
    ("bus_post", {"text": "\ud800"}, "text: contains a lone surrogate"),
    ("bus_post", {"text": "x" * 2_000_000}, "Post a shorter text"),
    ("bus_join", {}, "thread is required."),
    ("bus_join", {"thread": "no name"}, "Correct it and call the tool again."),
    ("bus_join", {"thread": "x" * 129}, "Correct it and call the tool again."),
    ("bus_join", {"thread": ["x"]}, "thread must be a string."),
    ("bus_wait", {"foo": 1}, "There is no argument 'foo'; there are: timeout_s, mentions_only,"),
    ("bus_wait", {"timeout_s": "soon"}, "timeout_s must be a number, not negative."),
    ("bus_wait", {"timeout_s": -1}, "timeout_s must be a number, not negative."),
    ("bus_wait", {"timeout_s": True}, "timeout_s must be a number, not negative."),
    ("bus_wait", {"thread": "\ud800"}, "thread"),
    ("bus_read", {"seq": 0}, "seq"),
    ("bus_read", {"limit": "many"}, "limit must be a whole number"),
]


@pytest.mark.parametrize(("tool", "arguments", "words"), WRONG, ids=repr)
async def test_a_wrong_argument_is_refused_in_a_sentence(
    host: Host, name: str, tool: str, arguments: dict[str, object], words: str
) -> None:
    await host.call("bus_join", thread=name)
    assert words in await host.refused(tool, **arguments)
    assert f"posted {name} #1" in await host.call("bus_post", text="still here")


@pytest.mark.parametrize(
    "arguments",
    [
        {"timeout_s": "0"},
        {"timeout_s": 0.0, "mentions_only": "false"},
        {"timeout_s": 0, "thread": None},
    ],
    ids=repr,
)
async def test_what_models_often_send_is_taken(
    host: Host, name: str, arguments: dict[str, object]
) -> None:
    await host.call("bus_join", thread=name)
    assert "No messages" in await host.call("bus_wait", **arguments)


async def test_a_wait_is_never_longer_than_the_host_may_wait(
    server: ServerProcess, name: str
) -> None:
    async with bridge_here(server.address, f"{name}-me", wait=0.0, wait_max=0.0) as host:
        await host.call("bus_join", thread=name)
        for arguments in ({}, {"timeout_s": 10**6}):
            text = await asyncio.wait_for(host.call("bus_wait", **arguments), BOUND)
            assert "within 0 s" in text
