"""PostMessage: posts that depend on the position of the thread."""

import asyncio

import grpc
import pytest

from tests.peers import Peer, recreate, set_state
from tests.refusals import refused
from tests.serving import BusStub, ThreadStub
from threadbus.v1.thread_pb2 import THREAD_STATE_CLOSED, THREAD_STATE_OPEN


async def test_a_post_whose_expectation_holds_is_stored(bus: BusStub, thread: str) -> None:
    anyone = Peer(bus)
    for n in range(5):
        assert (await anyone.post(thread, expected_last_seq=n)).seq == n + 1


@pytest.mark.parametrize("expected", [0, 1, 2, 4, 5, 2**40, 2**63 - 1])
async def test_a_post_whose_expectation_does_not_hold_is_refused(
    bus: BusStub, thread: str, expected: int
) -> None:
    anyone = Peer(bus)
    await anyone.post_all(thread, *"abc")
    refusal = await refused(anyone.post(thread, expected_last_seq=expected))
    assert refusal.reason == "SEQ_CONFLICT"
    assert refusal.metadata == {"expected": str(expected), "last_seq": "3"}
    assert len(await anyone.read(thread)) == 3


async def test_a_post_may_expect_to_be_the_first(bus: BusStub, thread: str) -> None:
    anyone = Peer(bus)
    assert (await anyone.post(thread, expected_last_seq=0)).seq == 1
    assert (await refused(anyone.post(thread, expected_last_seq=0))).reason == "SEQ_CONFLICT"


async def test_of_posts_with_one_expectation_exactly_one_wins(bus: BusStub, thread: str) -> None:
    anyone = Peer(bus)
    for head in range(10):
        attempts = [anyone.post(thread, str(n), expected_last_seq=head) for n in range(8)]
        outcomes = await asyncio.gather(*attempts, return_exceptions=True)
        won = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
        lost = [outcome for outcome in outcomes if isinstance(outcome, grpc.aio.AioRpcError)]
        assert [answer.seq for answer in won] == [head + 1]
        assert [error.code() for error in lost] == [grpc.StatusCode.ABORTED] * 7
    assert len(await anyone.read(thread)) == 10


async def test_entries_about_the_thread_count_for_an_expectation(
    bus: BusStub, threads: ThreadStub, thread: str
) -> None:
    anyone = Peer(bus)
    await anyone.post(thread)
    for state in (THREAD_STATE_CLOSED, THREAD_STATE_OPEN):
        await set_state(threads, thread, state)
    assert (await refused(anyone.post(thread, expected_last_seq=1))).reason == "SEQ_CONFLICT"
    assert (await anyone.post(thread, expected_last_seq=3)).seq == 4


async def test_a_post_for_another_epoch_is_refused(
    bus: BusStub, threads: ThreadStub, thread: str
) -> None:
    anyone = Peer(bus)
    old = await anyone.post(thread)
    assert (await anyone.post(thread, epoch=old.epoch)).epoch == old.epoch
    new = await recreate(threads, thread)
    assert new != old.epoch
    refusal = await refused(anyone.post(thread, epoch=old.epoch))
    assert refusal.reason == "CURSOR_INVALID"
    assert refusal.metadata == {"first_seq": "1", "head_seq": "0", "epoch": new}
    assert (await anyone.post(thread, epoch=new)).seq == 1
    assert (await anyone.post(thread)).seq == 2


async def test_a_reply_names_the_message_it_replies_to(bus: BusStub, thread: str) -> None:
    anyone = Peer(bus)
    await anyone.post_all(thread, *"ab")
    await anyone.post(thread, reply_to=2)
    await anyone.post(thread, reply_to=1)
    assert [message.reply_to for message in await anyone.read(thread)] == [0, 0, 2, 1]


@pytest.mark.parametrize("reply_to", [2, 3, 2**40, 2**63 - 1])
async def test_a_reply_to_a_message_that_does_not_exist_is_refused(
    bus: BusStub, thread: str, reply_to: int
) -> None:
    anyone = Peer(bus)
    await anyone.post(thread)
    refusal = await refused(anyone.post(thread, reply_to=reply_to))
    assert refusal.reason == "MESSAGE_NOT_FOUND"
    assert refusal.resources == [("message", f"{thread}/{reply_to}")]
    assert len(await anyone.read(thread)) == 1


@pytest.mark.parametrize("based_on_seq", [2, 2**40, 2**63 - 1])
async def test_based_on_seq_past_the_head_is_refused(
    bus: BusStub, thread: str, based_on_seq: int
) -> None:
    anyone = Peer(bus)
    await anyone.post(thread)
    refusal = await refused(anyone.post(thread, based_on_seq=based_on_seq))
    assert refusal.reason == "VALIDATION_FAILED"
    assert refusal.fields == ["based_on_seq"]
    assert len(await anyone.read(thread)) == 1


async def test_a_refused_post_adds_no_participant_and_leaves_no_gap(
    bus: BusStub, thread: str
) -> None:
    anyone = Peer(bus)
    outcomes = await asyncio.gather(
        *(
            anyone.post(thread, str(n), reply_to=99 if n % 3 == 0 else 0, request_id=str(n))
            for n in range(60)
        ),
        return_exceptions=True,
    )
    failed = [isinstance(outcome, grpc.aio.AioRpcError) for outcome in outcomes]
    assert failed == [n % 3 == 0 for n in range(60)]
    stored = await anyone.read(thread)
    assert [message.seq for message in stored] == list(range(1, 41))
    assert sorted(message.content for message in stored) == sorted(
        str(n) for n in range(60) if n % 3
    )
