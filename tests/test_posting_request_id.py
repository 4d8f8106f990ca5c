"""PostMessage: a request_id makes retries safe."""

import asyncio
from typing import Any

import grpc
import pytest

from tests.callers import operator
from tests.conftest import StartServer
from tests.peers import Peer, recreate, registered, set_state
from tests.refusals import refused
from tests.serving import AgentStub, BusStub, ServerProcess, ThreadStub
from threadbus.v1.agent_service_pb2_grpc import AgentServiceStub
from threadbus.v1.bus_service_pb2_grpc import BusServiceStub
from threadbus.v1.message_pb2 import Attachment
from threadbus.v1.thread_pb2 import (
    THREAD_STATE_ARCHIVED,
    THREAD_STATE_CLOSED,
    THREAD_STATE_OPEN,
    ThreadState,
)
from threadbus.v1.thread_service_pb2 import (
    CreateThreadRequest,
)
from threadbus.v1.thread_service_pb2_grpc import ThreadServiceStub


async def test_a_retry_with_the_same_request_id_returns_the_first_seq(
    bus: BusStub, thread: str
) -> None:
    anyone = Peer(bus)
    first = await anyone.post(thread, request_id="a")
    await anyone.post_all(thread, *"xyz")
    again = await anyone.post(thread, request_id="a")
    assert (first.deduplicated, again.deduplicated) == (False, True)
    assert (again.seq, again.create_time) == (first.seq, first.create_time)
    assert (first.last_seq, again.last_seq) == (1, 4)
    assert again.epoch == first.epoch
    assert len(await anyone.read(thread)) == 4


async def test_concurrent_retries_are_stored_once(bus: BusStub, thread: str) -> None:
    anyone = Peer(bus)
    answers = await asyncio.gather(*(anyone.post(thread, request_id="a") for _ in range(50)))
    assert {answer.seq for answer in answers} == {1}
    assert [answer.deduplicated for answer in answers].count(False) == 1
    assert len(await anyone.read(thread)) == 1


async def test_without_a_request_id_a_retry_is_stored_twice(bus: BusStub, thread: str) -> None:
    anyone = Peer(bus)
    assert [(await anyone.post(thread, "same")).seq for _ in range(2)] == [1, 2]


async def test_a_retry_does_not_conflict_with_its_own_first_success(
    bus: BusStub, thread: str
) -> None:
    anyone = Peer(bus)
    await anyone.post(thread)
    for deduplicated in (False, True):
        answer = await anyone.post(thread, request_id="a", expected_last_seq=1)
        assert (answer.seq, answer.deduplicated) == (2, deduplicated)


@pytest.mark.parametrize("state", [THREAD_STATE_CLOSED, THREAD_STATE_ARCHIVED])
async def test_a_retry_succeeds_after_the_thread_was_closed(
    bus: BusStub, threads: ThreadStub, thread: str, state: ThreadState.ValueType
) -> None:
    anyone = Peer(bus)
    await anyone.post(thread, request_id="a")
    await set_state(threads, thread, state)
    again = await anyone.post(thread, request_id="a")
    assert (again.seq, again.deduplicated, again.last_seq) == (1, True, 2)


@pytest.mark.parametrize(
    "fields",
    [{"expected_last_seq": 7}, {"epoch": "another"}, {"based_on_seq": 1}, {"based_on_seq": 99}],
    ids=str,
)
async def test_fields_that_are_not_part_of_the_body_may_differ(
    bus: BusStub, thread: str, fields: dict[str, Any]
) -> None:
    anyone = Peer(bus)
    await anyone.post(thread, request_id="a")
    again = await anyone.post(thread, request_id="a", **fields)
    assert (again.seq, again.deduplicated) == (1, True)
    [message] = await anyone.read(thread)
    assert not message.HasField("based_on_seq")


@pytest.mark.parametrize(
    "fields",
    [
        {"content": "another"},
        {"reply_to": 1},
        {"mentions": ["me"]},
        {"handoff_to": "me"},
        {"priority": "PRIORITY_HIGH"},
        {"labels": {"k": "v"}},
        {"wakes": "WAKE_NOBODY"},
        {"attachments": [Attachment(raw=b"")]},
    ],
    ids=lambda fields: next(iter(fields)),
)
async def test_a_request_id_reused_with_another_body_is_refused_with_its_seq(
    bus: BusStub, agents: AgentStub, thread: str, fields: dict[str, Any]
) -> None:
    coder = await registered(agents, bus, "coder")
    itself = {"mentions": [coder.name], "handoff_to": coder.name}
    await coder.post_all(thread, *"xy")
    await coder.post(thread, "hello", request_id="a")
    different = {"content": "hello"} | {key: itself.get(key, fields[key]) for key in fields}
    refusal = await refused(coder.post(thread, request_id="a", **different))
    assert refusal.reason == "REQUEST_ID_REUSED"
    assert refusal.metadata == {"seq": "3"}
    assert len(await coder.read(thread)) == 3


async def test_another_body_is_reported_before_conflicts_that_can_change(
    bus: BusStub, threads: ThreadStub, thread: str
) -> None:
    anyone = Peer(bus)
    await anyone.post(thread, request_id="a")
    await set_state(threads, thread, THREAD_STATE_CLOSED)
    refusal = await refused(
        anyone.post(thread, "another", request_id="a", expected_last_seq=9, epoch="another")
    )
    assert refusal.reason == "REQUEST_ID_REUSED"


async def test_each_sender_has_request_ids_of_its_own(
    bus: BusStub, agents: AgentStub, thread: str
) -> None:
    anna, bert = [await registered(agents, bus, name) for name in ("anna", "bert")]
    first = await anna.post(thread, request_id="a")
    second = await bert.post(thread, request_id="a")
    third = await Peer(bus).post(thread, request_id="a")
    assert [answer.seq for answer in (first, second, third)] == [1, 2, 3]


async def test_an_operators_retry_on_behalf_of_another_is_recognised(
    server: ServerProcess, bus: BusStub, agents: AgentStub, thread: str
) -> None:
    boss, anna = Peer(bus, operator(server)), await registered(agents, bus, "anna")
    for deduplicated in (False, True):
        answer = await boss.post(thread, request_id="a", on_behalf_of=anna.name)
        assert (answer.seq, answer.deduplicated) == (1, deduplicated)
    assert not (await boss.post(thread, request_id="a")).deduplicated


async def test_each_thread_has_request_ids_of_its_own(
    bus: BusStub, threads: ThreadStub, thread: str
) -> None:
    anyone = Peer(bus)
    await threads.CreateThread(CreateThreadRequest(thread=f"{thread}.other"))
    for name in (thread, f"{thread}.other"):
        answer = await anyone.post(name, f"in {name}", request_id="a")
        assert (answer.seq, answer.deduplicated) == (1, False)


async def test_a_recreated_thread_knows_no_request_ids(
    bus: BusStub, threads: ThreadStub, thread: str
) -> None:
    anyone = Peer(bus)
    await anyone.post(thread, request_id="a")
    await recreate(threads, thread)
    assert not (await anyone.post(thread, "another", request_id="a")).deduplicated


@pytest.mark.parametrize(
    ("reason", "wrong"),
    [
        ("SEQ_CONFLICT", {"expected_last_seq": 5}),
        ("CURSOR_INVALID", {"epoch": "another"}),
        ("VALIDATION_FAILED", {"based_on_seq": 5}),
        ("MESSAGE_NOT_FOUND", {"reply_to": 5}),
        ("AGENT_NOT_FOUND", {"handoff_to": "nobody-of-that-name"}),
        ("MESSAGE_TOO_LARGE", {"content": "x" * (1024 * 1024 + 1)}),
    ],
)
async def test_a_refused_post_does_not_consume_its_request_id(
    bus: BusStub, thread: str, reason: str, wrong: dict[str, Any]
) -> None:
    anyone = Peer(bus)
    assert (await refused(anyone.post(thread, request_id="a", **wrong))).reason == reason
    answer = await anyone.post(thread, "another body", request_id="a")
    assert (answer.seq, answer.deduplicated) == (1, False)


async def test_a_post_to_a_closed_thread_does_not_consume_its_request_id(
    bus: BusStub, threads: ThreadStub, thread: str
) -> None:
    anyone = Peer(bus)
    await set_state(threads, thread, THREAD_STATE_CLOSED)
    assert (await refused(anyone.post(thread, request_id="a"))).reason == "THREAD_CLOSED"
    await set_state(threads, thread, THREAD_STATE_OPEN)
    assert not (await anyone.post(thread, "another body", request_id="a")).deduplicated


@pytest.mark.slow
@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_request_ids_survive_a_restart(start_server: StartServer, how: str) -> None:
    server = start_server()
    async with grpc.aio.insecure_channel(server.address) as channel:
        await ThreadServiceStub(channel).CreateThread(CreateThreadRequest(thread="t"))
        bus: BusStub = BusServiceStub(channel)
        coder = await registered(AgentServiceStub(channel), bus, "coder")
        first = await coder.post("t", request_id="a")
    getattr(server, how)()
    server.start()
    async with grpc.aio.insecure_channel(server.address) as channel:
        coder = Peer(BusServiceStub(channel), coder.caller)
        again = await coder.post("t", request_id="a")
        assert (again.seq, again.create_time) == (first.seq, first.create_time)
        assert (again.deduplicated, again.epoch) == (True, first.epoch)
        refusal = await refused(coder.post("t", "another", request_id="a"))
        assert refusal.reason == "REQUEST_ID_REUSED"
