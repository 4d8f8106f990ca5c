"""The SDK without asyncio, against a real server that stays up."""

import contextlib
import gc
import threading
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bus_client import (
    Cursor,
    InvalidArgument,
    MessageFilter,
    Presence,
    SeqConflict,
    ThreadNotFound,
    ThreadState,
)
from bus_client.sync import BusClient, ThreadHandle
from tests.blocking import client, member, take, until
from tests.callers import operator
from tests.members import contents
from tests.serving import ServerProcess


@pytest.fixture
def reader(server: ServerProcess, name: str, tmp_path: Path) -> Iterator[ThreadHandle]:
    """A new thread, joined by an agent."""
    with member(server.address, name, tmp_path) as joined:
        yield joined


@pytest.fixture
def writer(server: ServerProcess, name: str, tmp_path: Path) -> Iterator[ThreadHandle]:
    """The same thread, joined by another agent."""
    with member(server.address, name, tmp_path, role="writer") as joined:
        yield joined


def test_joining_returns_all_that_is_known_of_the_thread(
    server: ServerProcess, name: str, tmp_path: Path
) -> None:
    with client(server.address, name, tmp_path) as bus:
        assert (bus.agent, bus.server) == (name, server.address)
        assert bus.server_info().agent == name
        created = bus.join(name, topic="what it is about")
        assert (created.name, created.created, created.info.topic) == (
            *(name, True, "what it is about"),
        )
        for text in "abc":
            created.post(text)
        with client(server.address, f"{name}-other", tmp_path) as other:
            joined = other.join(name, context_limit=2)
        assert not joined.created
        assert contents(joined.context) == ["b", "c"]
        assert {who.agent for who in joined.participants} == {name, f"{name}-other"}
        assert joined.position == Cursor(thread=name, after_seq=3, epoch=joined.info.epoch)
        assert [thread.name for thread in bus.list_threads(prefix=name)] == [name]
        assert {who.agent for who in joined.participants} == {
            who.agent for who in created.list_participants()
        }
        assert created.update(stage="done").stage == created.info.stage == "done"


def test_history_comes_first_and_then_live_messages(
    reader: ThreadHandle, writer: ThreadHandle
) -> None:
    writer.post("a")
    messages = reader.follow()
    assert take(messages, 1) == ["a"]
    with ThreadPoolExecutor() as pool:
        for text in "bc":
            coming = pool.submit(take, messages, 1)
            writer.post(text)
            assert coming.result() == [text]
    messages.close()


def test_the_message_at_which_a_loop_ended_comes_again(
    reader: ThreadHandle, writer: ThreadHandle
) -> None:
    for text in "abc":
        writer.post(text)
    seen = []
    for message in reader.follow():
        seen.append(message.content)
        if message.content == "b":
            break
    assert reader.position.after_seq == 1
    with pytest.raises(ZeroDivisionError):
        for message in reader.follow():
            seen.append(message.content)
            _ = 1 / 0
    seen += take(reader.follow(), 2)
    assert seen == ["a", "b", "b", "b", "c"]


def test_each_message_counts_as_read_when_the_next_is_requested(
    reader: ThreadHandle, writer: ThreadHandle
) -> None:
    assert len([*writer.post_many([*"abcdef"])]) == 6
    me = reader.participants[0].agent

    def reported() -> int:
        return next(who.read_seq for who in writer.list_participants() if who.agent == me)

    with contextlib.closing(reader.follow()) as messages:
        assert take(messages, 3) == ["a", "b", "c"]
        assert reader.position.after_seq == 2
        until(lambda: reported() == 2)
        reader.acknowledge(5)
        assert take(messages, 1) == ["d"]
        assert reader.position.after_seq == 5
    assert take(reader.follow(), 1) == ["f"]


def test_a_loop_that_is_still_referenced_can_be_closed_explicitly(
    reader: ThreadHandle, writer: ThreadHandle
) -> None:
    writer.post("a")
    with contextlib.closing(reader.follow()) as messages:
        assert take(messages, 1) == ["a"]
        with pytest.raises(RuntimeError, match=reader.name):
            reader.wait(timeout=0)
    assert take(messages, 1) == []
    assert contents(reader.wait(timeout=0)) == ["a"]


def test_a_loop_ends_when_the_thread_is_closed(reader: ThreadHandle, writer: ThreadHandle) -> None:
    writer.post("the last")
    reader.set_state(ThreadState.THREAD_STATE_CLOSED)
    assert next(message.content for message in [*reader.follow()]) == "the last"
    assert [*reader.follow()] == []


def test_only_matching_messages_come(reader: ThreadHandle, writer: ThreadHandle) -> None:
    writer.post("to nobody")
    writer.post("to you", mentions=[f"{reader.name}-reader"])
    assert take(reader.follow(filter=MessageFilter(addressed_to_me=True)), 1) == ["to you"]
    assert contents(reader.messages(newest=True, limit=1)) == ["to you"]
    assert reader.message(1).content == "to nobody"


def test_a_wait_returns_available_or_new_messages_or_none(
    reader: ThreadHandle, writer: ThreadHandle
) -> None:
    writer.post("a")
    assert contents(reader.wait(timeout=60)) == ["a"]
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(reader.wait, timeout=60)
        writer.post("b")
        assert contents(waiting.result()) == ["b"]
    begun = time.monotonic()
    assert reader.wait(timeout=0.1) == []
    assert time.monotonic() - begun >= 0.1


def test_the_position_can_be_set(reader: ThreadHandle, writer: ThreadHandle) -> None:
    for text in "ab":
        writer.post(text)
    assert contents(reader.wait(timeout=60, min_messages=2)) == ["a", "b"]
    reader.acknowledge()
    assert reader.position.after_seq == 2
    reader.position = Cursor(thread=reader.name, after_seq=1, epoch=reader.position.epoch)
    assert reader.position.after_seq == 1
    assert take(reader.follow(), 1) == ["b"]


def test_participants_are_reported_as_they_change(
    server: ServerProcess, reader: ThreadHandle, name: str, tmp_path: Path
) -> None:
    with contextlib.closing(reader.watch_participants()) as updates:
        assert [who.agent for who in next(updates).participants] == [f"{name}-reader"]
        with client(server.address, name, tmp_path) as bus:
            bus.join(name)
            assert bus.heartbeat(status_text="just come").HasField("agent_timeout")
            told = (who.agent for update in updates for who in update.participants)
            assert name in told  # at last
        told.close()


def test_an_operator_lists_waits_and_registers_agents(
    server: ServerProcess, reader: ThreadHandle, writer: ThreadHandle
) -> None:
    writer.post("a")
    with (
        BusClient(server.address, token=operator(server).token, heartbeats=False) as bus,
        contextlib.closing(reader.follow()) as messages,
    ):
        assert take(messages, 1) == ["a"]
        assert [wait.agent for wait in bus.list_waits(thread=reader.name)] == [
            f"{reader.name}-reader"
        ]
        agent, token = bus.register_agent(f"{reader.name}-new")
        with BusClient(server.address, token=token) as new:
            assert new.agent == agent.name
            new_token = new.rotate_token()
            assert new.update_agent(description="new here").description == "new here"
            new.end_session()
        assert new_token != token
        assert bus.get_agent(agent.name).description == "new here"
        bus.unregister_agent(agent.name)
        assert agent.name not in {known.name for known in bus.list_agents()}


def test_errors_keep_their_type_their_fields_and_their_traceback(
    reader: ThreadHandle, writer: ThreadHandle
) -> None:
    writer.post("a")
    with pytest.raises(SeqConflict) as conflict:
        reader.post("b", expected_last_seq=0)
    assert (conflict.value.expected, conflict.value.last_seq) == (0, 1)
    road = [frame.name for frame in traceback.extract_tb(conflict.value.__traceback__)]
    assert road[0] == "test_errors_keep_their_type_their_fields_and_their_traceback"
    assert road.count("post") == 2  # the sync one that was called, and the async one
    assert road[-1] == "_repeat"
    with pytest.raises(InvalidArgument) as refused:
        reader.post()
    assert refused.value.field_violations[0][0] == "content"
    reader.delete()
    with pytest.raises(ThreadNotFound):
        next(reader.follow())


def test_a_client_that_is_not_connected_raises_an_error(server: ServerProcess) -> None:
    bus = BusClient(server.address)
    with pytest.raises(RuntimeError, match="connect"):
        bus.join("anything")
    bus.connect()
    bus.connect()
    handle = bus.thread("anything")
    bus.close()
    bus.close()
    with pytest.raises(RuntimeError, match="closed"):
        handle.post("too late")


def test_several_threads_use_one_client(reader: ThreadHandle, writer: ThreadHandle) -> None:
    def post(who: int) -> list[int]:
        return [writer.post(f"{who}").seq for _ in range(20)]

    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(reader.wait, timeout=60, min_messages=80)
        posted = [*pool.map(post, range(4))]
        assert sorted(seq for seqs in posted for seq in seqs) == [*range(1, 81)]
        assert [message.seq for message in waiting.result()] == [*range(1, 81)]


def test_closing_a_client_ends_the_calls_of_other_threads(
    server: ServerProcess, name: str, tmp_path: Path
) -> None:
    with client(server.address, name, tmp_path) as bus, ThreadPoolExecutor() as pool:
        handle = bus.join(name, start="first")
        handle.post("a")
        messages = handle.follow(include_own=True)
        next(messages)
        waiting = pool.submit(next, messages)
        until(lambda: handle.position.after_seq == 1)  # the next one was requested
        bus.close()
        with pytest.raises(RuntimeError, match="closed"):
            waiting.result()


def test_an_unreferenced_loop_is_closed_by_whichever_thread_collects_it(
    server: ServerProcess, reader: ThreadHandle, writer: ThreadHandle
) -> None:
    writer.post("a")
    found = []

    def collect_garbage() -> Iterator[Presence.ValueType]:
        found.append(threading.current_thread().name)
        with pytest.raises(RuntimeError, match="own event loop"):
            writer.post("from in there")
        gc.collect()
        yield from ()

    with BusClient(server.address) as anyone, without_garbage_collection():
        forgotten = [reader.follow()]
        assert take(forgotten[0], 1) == ["a"]
        forgotten.append(forgotten)  # type: ignore[arg-type]
        del forgotten
        # Its argument is read by a background thread, which closing would wait for.
        assert [*anyone.list_agents(presences=collect_garbage())]
        assert found == ["bus_client.sync"]
        assert contents(reader.wait(timeout=0)) == ["a"]


@contextlib.contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Disables the garbage collector: cycles are found only by an explicit collection."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def test_all_clients_share_one_thread(server: ServerProcess, name: str, tmp_path: Path) -> None:
    def loops() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "bus_client.sync"]

    with client(server.address, f"{name}-one", tmp_path):
        (one,) = loops()
        with client(server.address, f"{name}-two", tmp_path):
            assert loops() == [one]
    assert one.daemon
