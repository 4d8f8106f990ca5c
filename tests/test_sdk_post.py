"""ThreadHandle.post against a real server: what is stored, and how it is refused."""

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import TypeVar

import pytest

from bus_client import (
    AccessDenied,
    AgentNotFound,
    Attachment,
    BusClient,
    BusError,
    CursorInvalid,
    InvalidArgument,
    MessageNotFound,
    MessageTooLarge,
    Priority,
    RequestIdReused,
    SeqConflict,
    ThreadClosed,
    ThreadNotFound,
    ThreadState,
)
from tests.callers import operator
from tests.files import file
from tests.members import contents, member
from tests.peers import recreate, registered
from tests.serving import AgentStub, BusStub, ServerProcess, ThreadStub

Error = TypeVar("Error", bound=BusError)


async def refused(call: Awaitable[object], kind: type[Error]) -> Error:
    """Returns the error of exactly this type that a call raises long before its timeout."""
    with pytest.raises(kind) as raised:
        async with asyncio.timeout(10):
            await call
    assert type(raised.value) is kind
    assert not raised.value.retryable
    return raised.value


async def test_a_post_is_stored_as_given(
    server: ServerProcess, bus: BusStub, agents: AgentStub, thread: str, tmp_path: Path
) -> None:
    other = await registered(agents, bus, "other")
    async with member(server.address, thread, tmp_path) as poster:
        await poster.post("one")
        answer = await poster.post(
            "two 🎈",
            mentions=[other.name],
            reply_to=1,
            handoff_to=other.name,
            priority=Priority.PRIORITY_URGENT,
            labels={"colour": "blue"},
            attachments=[Attachment(filename="a.txt", raw=b"\x00\xff")],
            expected_last_seq=1,
            based_on_seq=1,
            request_id="mine",
        )
        message = await poster.message(2)
    assert (answer.thread, answer.seq, answer.last_seq) == (thread, 2, 2)
    assert not answer.deduplicated
    assert message.create_time == answer.create_time
    assert (message.sender, message.content) == (f"{thread}-reader", "two 🎈")
    assert (list(message.mentions), message.handoff_to) == ([other.name], other.name)
    assert (message.reply_to, message.based_on_seq, message.request_id) == (1, 1, "mine")
    assert message.priority == Priority.PRIORITY_URGENT
    assert dict(message.labels) == {"colour": "blue"}
    assert list(message.attachments) == [file(b"\x00\xff", filename="a.txt")]


async def test_every_post_has_a_request_id_of_its_own(server: ServerProcess, thread: str) -> None:
    async with BusClient(server.address) as client:
        handle = client.thread(thread)
        for _ in range(3):
            await handle.post("the same words")
        ids = [message.request_id for message in await handle.messages()]
    assert all(ids)
    assert len(set(ids)) == 3


async def test_a_post_retried_with_its_request_id_is_stored_once(
    server: ServerProcess, thread: str
) -> None:
    async with BusClient(server.address) as client:
        handle = client.thread(thread)
        first = await handle.post("hello", request_id="mine")
        await handle.post("something else")
        again = await handle.post("hello", request_id="mine", expected_last_seq=0)
        assert (again.seq, again.create_time) == (first.seq, first.create_time)
        assert (again.deduplicated, again.last_seq) == (True, 2)
        assert contents(await handle.messages()) == ["hello", "something else"]


async def test_an_operator_posts_on_behalf_of_another(
    server: ServerProcess, thread: str, name: str
) -> None:
    async with BusClient(server.address, token=operator(server).token) as client:
        await client.thread(thread).post("hello", on_behalf_of=f"{name}-other")
        message = await client.thread(thread).message(1)
    assert (message.sender, message.posted_by) == (f"{name}-other", "operator")


async def test_a_conflict_carries_the_expected_and_the_actual_seq(
    server: ServerProcess, thread: str
) -> None:
    async with BusClient(server.address) as client:
        handle = client.thread(thread)
        for n in range(3):
            await handle.post("x", expected_last_seq=n)
        for expected in (0, 2, 4):
            error = await refused(handle.post("y", expected_last_seq=expected), SeqConflict)
            assert (error.expected, error.last_seq) == (expected, 3)
            assert (error.code, error.reason) == ("ABORTED", "SEQ_CONFLICT")
        assert len(await handle.messages()) == 3


async def test_a_reused_request_id_is_an_error_with_the_first_seq(
    server: ServerProcess, thread: str
) -> None:
    async with BusClient(server.address) as client:
        handle = client.thread(thread)
        await handle.post("first")
        await handle.post("second", request_id="mine")
        error = await refused(handle.post("third", request_id="mine"), RequestIdReused)
        assert (error.seq, error.code) == (2, "ALREADY_EXISTS")


@pytest.mark.parametrize(
    "state", [ThreadState.THREAD_STATE_CLOSED, ThreadState.THREAD_STATE_ARCHIVED]
)
async def test_a_closed_thread_takes_no_posts_until_it_is_opened(
    server: ServerProcess, thread: str, state: ThreadState.ValueType
) -> None:
    async with BusClient(server.address) as client:
        handle = client.thread(thread)
        first = await handle.post("before", request_id="mine")
        await handle.set_state(state)
        error = await refused(handle.post("too late"), ThreadClosed)
        assert (error.code, error.reason) == ("FAILED_PRECONDITION", "THREAD_CLOSED")
        # A post stored before may still be retried.
        assert (await handle.post("before", request_id="mine")).seq == first.seq
        await handle.set_state(ThreadState.THREAD_STATE_OPEN)
        await handle.post("again")


async def test_a_post_that_is_too_large_is_an_error_with_the_limit(
    server: ServerProcess, thread: str
) -> None:
    async with BusClient(server.address) as client:
        handle = client.thread(thread)
        limit = (await client.server_info()).limits.max_content_bytes
        error = await refused(handle.post("x" * (limit + 1)), MessageTooLarge)
        assert error.metadata == {"limit": str(limit), "size": str(limit + 1)}
        # So large that gRPC itself refuses it.
        error = await refused(handle.post("x" * 5_000_000), MessageTooLarge)
        assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "")
        assert (await handle.post("x" * limit)).seq == 1


async def test_an_invalid_post_is_an_error_with_its_fields(
    server: ServerProcess, thread: str
) -> None:
    async with BusClient(server.address) as client:
        handle = client.thread(thread)
        error = await refused(handle.post("x", mentions=["ok", "Not Ok"]), InvalidArgument)
        assert [field for field, _ in error.field_violations] == ["mentions[1]"]
        assert all(description for _, description in error.field_violations)
        error = await refused(handle.post(), InvalidArgument)
        assert [field for field, _ in error.field_violations] == ["content"]


async def test_a_message_that_a_post_refers_to_must_exist(
    server: ServerProcess, thread: str
) -> None:
    async with BusClient(server.address) as client:
        handle = client.thread(thread)
        await refused(handle.post("x", mentions=["nobody"]), AgentNotFound)
        await refused(handle.post("x", reply_to=1), MessageNotFound)
        await refused(client.thread(f"{thread}-2").post("x"), ThreadNotFound)
        await refused(handle.post("x", on_behalf_of="somebody"), AccessDenied)
        assert await handle.messages() == []


@pytest.mark.parametrize("field", ["reply_to", "expected_last_seq", "based_on_seq"])
async def test_a_seq_of_another_epoch_is_refused_even_if_it_exists(
    server: ServerProcess, threads: ThreadStub, thread: str, field: str
) -> None:
    async with BusClient(server.address) as client:
        handle = await client.join(thread)
        await handle.post("in the old thread")
        epoch = await recreate(threads, thread)
        assert (await handle.post("in the new one")).epoch == epoch  # it has no seq
        error = await refused(handle.post("x", **{field: 1}), CursorInvalid)  # type: ignore[arg-type]
        assert error.metadata == {"first_seq": "1", "head_seq": "1", "epoch": epoch}
        # Joining again gives the new epoch.
        handle = await client.join(thread)
        assert (await handle.post("x", **{field: 1})).seq == 2  # type: ignore[arg-type]


async def test_a_handle_that_never_joined_does_not_check_the_epoch(
    server: ServerProcess, threads: ThreadStub, thread: str
) -> None:
    async with BusClient(server.address) as client:
        handle = client.thread(thread)
        await handle.post("in the old thread")
        await recreate(threads, thread)
        await handle.post("in the new one")
        assert (await handle.post("x", reply_to=1)).seq == 2
