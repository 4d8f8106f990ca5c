"""The retention of threads as a setting: its limits, who sets it, and the server's defaults."""

from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from tests.callers import operator
from tests.conftest import StartServer
from tests.connections import connected
from tests.participation import join
from tests.peers import Peer, registered
from tests.refusals import refused
from tests.retention import EVERYTHING, create, post, read, retain, set_retention, until_first
from tests.rpcs import nothing_stored
from tests.serving import AgentStub, BusStub, ServerProcess, ThreadStub
from threadbus.v1.bus_service_pb2 import GetMessageRequest, GetServerInfoRequest
from threadbus.v1.message_pb2 import MESSAGE_KIND_THREAD, WAKE_NOBODY
from threadbus.v1.thread_pb2 import Retention
from threadbus.v1.thread_service_pb2 import CreateThreadRequest, UpdateThreadRequest

LONGEST = Duration(seconds=315_576_000_000)
NOT_VALID: list[tuple[str, dict[str, Any]]] = [
    ("max_messages", {"max_messages": -1}),
    ("max_messages", {"max_messages": -(2**63)}),
    ("max_bytes", {"max_bytes": -1}),
    ("max_age", {"max_age": Duration(seconds=-1)}),
    ("max_age", {"max_age": Duration(nanos=-1)}),
    ("max_age", {"max_age": Duration(seconds=1, nanos=-1)}),
    ("max_age", {"max_age": Duration(nanos=1_000_000_000)}),
    ("max_age", {"max_age": Duration(seconds=315_576_000_001)}),
    ("max_age", {"max_age": Duration(seconds=-(2**63))}),
]
#: Retentions that keep what a test posts, and how they are described.
VALID = [
    (EVERYTHING, "everything"),
    (Retention(max_age=Duration(), max_messages=0, max_bytes=0), "everything"),
    (Retention(max_messages=2**63 - 1), "9,223,372,036,854,775,807 messages"),
    (Retention(max_bytes=2**63 - 1), "9,223,372,036,854,775,807 bytes"),
    (Retention(max_age=LONGEST), "3,652,500 days"),
    (Retention(max_age=Duration(seconds=36 * 3600)), "36 hours"),
    (Retention(max_age=Duration(seconds=90)), "90 seconds"),
    (Retention(max_age=Duration(seconds=90, nanos=500_000_000)), "90.5 seconds"),
    (
        Retention(max_age=Duration(seconds=86_400 * 30), max_messages=1_000, max_bytes=10_000_000),
        "30 days, 1,000 messages, 10,000,000 bytes",
    ),
]


@pytest.mark.parametrize(("field", "limits"), NOT_VALID)
async def test_limits_that_are_not_valid_are_refused_and_change_nothing(
    channel: grpc.aio.Channel, threads: ThreadStub, name: str, field: str, limits: dict[str, Any]
) -> None:
    before = await create(threads, f"{name}-known", Retention(max_messages=100))
    retention = Retention(**limits)
    mask = FieldMask(paths=["retention"])
    update = UpdateThreadRequest(thread=before.name, retention=retention, update_mask=mask)
    async with nothing_stored(channel):
        for call in (
            threads.CreateThread(CreateThreadRequest(thread=name, retention=retention)),
            threads.UpdateThread(update),
        ):
            refusal = await refused(call)
            assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT
            assert refusal.reason == "VALIDATION_FAILED"
            assert refusal.fields == [f"retention.{field}"]
    assert await read(threads, before.name) == before


@pytest.mark.parametrize(("retention", "told"), VALID)
async def test_a_retention_is_shown_and_its_change_is_an_entry(
    bus: BusStub, threads: ThreadStub, name: str, retention: Retention, told: str
) -> None:
    created = await create(threads, f"{name}-created", retention)
    assert created.HasField("retention")
    assert created.retention == retention
    assert await read(threads, created.name) == created
    assert not (await create(threads, name)).HasField("retention")
    changed = await set_retention(threads, name, retention)
    assert changed.HasField("retention")
    assert (changed.retention, changed.head_seq) == (retention, 1)
    assert await read(threads, name) == changed
    entry = (await bus.GetMessage(GetMessageRequest(thread=name, seq=1))).message
    assert entry.content == f"anonymous set the thread's retention to {told}"
    assert (entry.kind, entry.wakes) == (MESSAGE_KIND_THREAD, WAKE_NOBODY)


async def test_a_retention_is_replaced_as_a_whole_and_unset_by_the_mask_alone(
    bus: BusStub, threads: ThreadStub, name: str
) -> None:
    await create(threads, name, Retention(max_messages=5_000, max_bytes=10**9))
    changed = await retain(threads, name, max_age=LONGEST)
    assert changed.retention == Retention(max_age=LONGEST)
    # Without it in the mask it does not change.
    request = UpdateThreadRequest(
        thread=name, topic="tea", retention=EVERYTHING, update_mask=FieldMask(paths=["topic"])
    )
    assert (await threads.UpdateThread(request)).thread.retention == changed.retention
    unset = await set_retention(threads, name, None)
    assert not unset.HasField("retention")
    entry = (await bus.GetMessage(GetMessageRequest(thread=name, seq=3))).message
    assert entry.content == "anonymous set the thread's retention to that of the server"


@pytest.mark.parametrize("retention", [None, EVERYTHING, Retention(max_messages=7)])
async def test_setting_the_same_retention_adds_no_entry(
    channel: grpc.aio.Channel, threads: ThreadStub, name: str, retention: Retention | None
) -> None:
    created = await create(threads, name, retention)
    async with nothing_stored(channel):
        assert await set_retention(threads, name, retention) == created


async def test_an_empty_retention_is_another_one_than_none(threads: ThreadStub, name: str) -> None:
    await create(threads, name)
    assert (await set_retention(threads, name, EVERYTHING)).head_seq == 1
    assert (await set_retention(threads, name, None)).head_seq == 2


async def test_parts_of_a_retention_are_no_fields(threads: ThreadStub, thread: str) -> None:
    mask = FieldMask(paths=["retention.max_messages"])
    request = UpdateThreadRequest(thread=thread, update_mask=mask)
    refusal = await refused(threads.UpdateThread(request))
    assert refusal.fields == ["update_mask.paths[0]"]
    assert "retention" in refusal.message


async def test_participants_may_not_change_it_but_owners_and_operators_may(
    bus: BusStub, agents: AgentStub, threads: ThreadStub, server: ServerProcess, name: str
) -> None:
    owner = await registered(agents, bus, "owner")
    participant = await registered(agents, bus, "participant")
    await create(threads, name, by=owner)
    await join(threads, name, participant)
    before = await read(threads, name)
    for caller in (participant, None):
        refusal = await refused(retain(threads, name, by=caller, max_messages=1))
        assert (refusal.code, refusal.reason) == (
            grpc.StatusCode.PERMISSION_DENIED,
            "ACCESS_DENIED",
        )
    both = FieldMask(paths=["stage", "retention"])
    request = UpdateThreadRequest(thread=name, stage="review", update_mask=both)
    refusal = await refused(threads.UpdateThread(request, metadata=participant.metadata))
    assert refusal.reason == "ACCESS_DENIED"
    assert await read(threads, name) == before
    assert (await retain(threads, name, by=owner, max_messages=7)).retention.max_messages == 7
    changed = await retain(threads, name, by=Peer(bus, operator(server)), max_messages=8)
    assert changed.retention.max_messages == 8


async def test_another_epoch_changes_nothing(threads: ThreadStub, name: str) -> None:
    created = await create(threads, name)
    request = UpdateThreadRequest(
        thread=name,
        retention=EVERYTHING,
        update_mask=FieldMask(paths=["retention"]),
        epoch="another",
    )
    refusal = await refused(threads.UpdateThread(request))
    assert refusal.reason == "CURSOR_INVALID"
    assert await read(threads, name) == created


# ── The server's defaults ───────────────────────────────────────────────────────────────────────


@pytest.mark.slow
async def test_the_servers_defaults_hold_for_threads_without_a_retention_of_their_own(
    start_server: StartServer,
) -> None:
    limits = ("--retain-messages", "3", "--retain-age", "30d", "--retain-bytes", "10000000")
    server = start_server(*limits)
    async with connected(server.address) as client:
        threads = client.threads
        info = await client.bus.GetServerInfo(GetServerInfoRequest())
        assert info.default_retention == Retention(
            max_age=Duration(seconds=30 * 86_400), max_messages=3, max_bytes=10_000_000
        )
        await create(threads, "unset")
        await create(threads, "everything", EVERYTHING)
        await create(threads, "five", Retention(max_messages=5))
        for thread in ("everything", "five", "unset"):
            await post(client.bus, thread, 10)
        await until_first(threads, "unset", 8)
        await until_first(threads, "five", 6)
        assert (await read(threads, "everything")).first_seq == 1
        # Its own, from now on.
        await retain(threads, "unset")
        await post(client.bus, "unset", 10)
        # The server's, from now on.
        await set_retention(threads, "everything", None)
        found = await until_first(threads, "everything", 9)
        assert not found.HasField("retention")
        assert (await read(threads, "unset")).first_seq == 8


async def test_without_defaults_everything_is_kept(bus: BusStub) -> None:
    info = await bus.GetServerInfo(GetServerInfoRequest())
    assert info.default_retention == Retention()
