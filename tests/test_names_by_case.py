"""Misspelt names: threads that differ only by case, and agents that did not exist before."""

from pathlib import Path

import pytest

from bus_client import BusClient, ThreadNotFound
from tests.peers import Peer
from tests.refusals import refused
from tests.serving import BusStub, ServerProcess, ThreadStub
from tests.shell import Shell
from threadbus.v1.bus_service_pb2 import GetMessageRequest, ListMessagesRequest
from threadbus.v1.message_pb2 import Cursor
from threadbus.v1.thread_service_pb2 import (
    CreateThreadRequest,
    GetThreadRequest,
    JoinThreadRequest,
    ListParticipantsRequest,
)


@pytest.fixture
def shell(server: ServerProcess, tmp_path: Path) -> Shell:
    return Shell(server.address, tmp_path)


# ── Threads ─────────────────────────────────────────────────────────────────────────────────────


async def test_creating_a_thread_returns_those_that_differ_by_case(
    threads: ThreadStub, name: str
) -> None:
    thread, other = f"{name}-design", f"{name}-DESIGN"
    await threads.CreateThread(CreateThreadRequest(thread=thread))
    joined = await threads.JoinThread(JoinThreadRequest(thread=other, create=True))
    assert (joined.created, list(joined.similar)) == (True, [thread])
    again = await threads.JoinThread(JoinThreadRequest(thread=other, create=True))
    assert (again.created, list(again.similar)) == (False, [])
    third = await threads.JoinThread(JoinThreadRequest(thread=f"{name}-Design", create=True))
    assert list(third.similar) == [other, thread]


async def test_not_found_names_the_threads_that_differ_by_case(
    bus: BusStub, threads: ThreadStub, thread: str
) -> None:
    other = thread.upper()
    calls = (
        Peer(bus).post(other),
        threads.GetThread(GetThreadRequest(thread=other)),
        threads.JoinThread(JoinThreadRequest(thread=other)),
        threads.ListParticipants(ListParticipantsRequest(thread=other)),
        bus.ListMessages(ListMessagesRequest(thread=other)),
        bus.GetMessage(GetMessageRequest(thread=other, seq=1)),
    )
    for call in calls:
        assert (await refused(call)).message == f"no thread {other}; there is {thread}"
    async with Peer(bus).wait(Cursor(thread=other), thread) as frames:
        refusal = await refused(frames.rest())
    assert refusal.message == f"no thread {other}; there is {thread}"


async def test_only_a_few_similar_names_are_returned(threads: ThreadStub, name: str) -> None:
    letters = f"x{name}abcdefg"
    for upper in "abcdefg":
        similar = letters.replace(upper, upper.upper())
        await threads.CreateThread(CreateThreadRequest(thread=similar))
    joined = await threads.JoinThread(JoinThreadRequest(thread=letters, create=True))
    assert len(joined.similar) == 5


async def test_a_thread_handle_has_the_similar_names(server: ServerProcess, thread: str) -> None:
    async with BusClient(server.address) as bus:
        handle = await bus.join(thread.upper())
        assert (handle.created, handle.similar) == (True, [thread])
        await handle.delete()
        with pytest.raises(ThreadNotFound, match=f"there is {thread}"):
            await bus.get_thread(thread.upper())


def test_post_and_join_print_that_a_thread_is_new(shell: Shell, name: str) -> None:
    upper, title = f"{name}-DESIGN", f"{name}-Design"
    name = f"{name}-design"
    done = shell.run("post", name, "hello")
    assert (done.out, done.err) == (f"{name} #1\n", "new thread; nobody will see this yet\n")
    done = shell.run("post", upper, "hello")
    assert done.err == f"new thread {upper}; there is also {name}; nobody will see this yet\n"
    done = shell.run("join", title)
    assert done.out.splitlines()[-1] == f"new thread {title}; there is also {upper}, {name}"
    assert shell.run("join", f"{name}-b").out.splitlines()[-1] == f"new thread {name}-b"
    assert shell.run("post", name, "again").err == ""


def test_post_prints_that_a_thread_is_new_though_it_mentions_an_agent(
    shell: Shell, name: str
) -> None:
    """Otherwise the message seems to be where the agent is."""
    shell.ok("register", f"{name}-r")
    shell.ok("post", name, "hello")
    done = shell.run("post", name.upper(), f"@{name}-r please")
    assert done.out == f"{name.upper()} #1 · {name}-r idle\n"
    assert done.err == f"new thread {name.upper()}; there is also {name}\n"
    assert shell.run("post", f"{name}-n", f"@{name}-r").err == f"new thread {name}-n\n"


def test_programs_get_the_same(shell: Shell, name: str) -> None:
    told = ("created", "similar", "registered")
    who = ["--as", f"{name}-a"]
    first = shell.ok("post", name, "hello", *who, "--json").json
    assert [first[key] for key in told] == [True, [], True]
    second = shell.ok("post", name, "hello", *who, "--json").json
    assert [second[key] for key in told] == [False, [], False]
    joined = shell.ok("join", name.upper(), "--as", f"{name}-b", "--json").json
    assert [joined[key] for key in told] == [True, [name], True]


def test_reading_and_waiting_name_the_similar_thread(shell: Shell, name: str) -> None:
    shell.ok("post", name, "hello")
    for command in (["read", name.upper()], ["wait", name.upper(), "--timeout", "0"]):
        done = shell.run(*command)
        assert done.code == 1
        assert f"no thread {name.upper()}; there is {name}\n" in done.err


# ── Agents ──────────────────────────────────────────────────────────────────────────────────────


async def test_registering_prints_whether_the_agent_is_new(
    server: ServerProcess, name: str, tmp_path: Path
) -> None:
    credentials = tmp_path / "credentials.json"
    for created in (True, False):
        async with BusClient(server.address, agent=name, credentials=credentials) as bus:
            assert bus.created is created
    async with BusClient(server.address) as bus:
        assert not bus.created


def test_the_first_use_of_a_name_is_printed(shell: Shell, name: str) -> None:
    shell.ok("register", name)
    shell.ok("post", name, "hello")
    assert shell.run("post", name, "hello", "--as", name).err == ""
    wait = ["wait", name, "--timeout", "0", "--as"]
    assert f"registered {name}-revewer\n" in shell.run(*wait, f"{name}-revewer").err
    assert "registered" not in shell.run(*wait, f"{name}-revewer").err
