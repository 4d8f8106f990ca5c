"""What belongs to messages that are removed: requests, request_ids, edits and replies."""

from typing import Any

import pytest

from tests.peers import Peer, registered
from tests.polling import until_known
from tests.presence import beat, state
from tests.refusals import refused
from tests.requests import alive, ask, listed, noticed, notices_in, states, withdraw
from tests.retention import create, post, retain, shorten, until_first
from tests.server_pairs import caller_of
from tests.serving import AgentStub, BusStub, ThreadStub
from tests.wait_frames import BOUND, messages_in
from threadbus.v1.bus_service_pb2 import (
    GetMessageRequest,
    ListMessagesRequest,
    WaitEnding,
    WaitMessagesRequest,
)
from threadbus.v1.message_pb2 import WAKE_ADDRESSED, Cursor, MessageFilter
from threadbus.v1.request_pb2 import REQUEST_STATE_CLOSED
from threadbus.v1.thread_pb2 import Retention

pytestmark = [pytest.mark.slow, pytest.mark.asking_server]


@pytest.fixture
async def asker(bus: BusStub, agents: AgentStub) -> Peer:
    return await alive(await registered(agents, bus, "asker"))


@pytest.fixture
async def reviewer(bus: BusStub, agents: AgentStub) -> Peer:
    return await alive(await registered(agents, bus, "reviewer"))


@pytest.fixture
async def other(bus: BusStub, agents: AgentStub) -> Peer:
    return await alive(await registered(agents, bus, "other"))


# ── Requests ────────────────────────────────────────────────────────────────────────────────────


async def test_an_open_request_is_closed_before_its_message_goes_and_its_asker_woken(
    bus: BusStub,
    threads: ThreadStub,
    asker: Peer,
    reviewer: Peer,
    other: Peer,
    name: str,
) -> None:
    await create(threads, name)
    await asker.post(name)
    seq = await ask(asker, name, reviewer.name, other.name)
    await other.post(name, "done", reply_to=seq)
    wanted = MessageFilter(addressed_to_me=True)
    async with asker.wait(all_my_threads=True, filter=wanted, min_messages=2) as wait:
        await wait.until("caught_up")
        await retain(threads, name, max_messages=2)
        # The notice is an entry, too: the sixth is the last but one, or the only one.
        frames = [*wait.received, *await wait.rest()]
    assert notices_in(messages_in(frames))[-1:] == [("OVERDUE", seq, reviewer.name)]
    assert await states(asker, name) == {
        (seq, reviewer.name): "CLOSED",
        (seq, other.name): "ANSWERED",
    }
    found = await until_first(threads, name, 4)
    assert found.head_seq == 5
    assert await noticed(asker, name, 1) == [("OVERDUE", seq, reviewer.name)]


async def test_an_overdue_request_is_closed_without_a_second_notice(
    bus: BusStub, threads: ThreadStub, asker: Peer, reviewer: Peer, name: str
) -> None:
    await create(threads, name)
    seq = await ask(asker, name, reviewer.name, within=0.001)
    assert await noticed(asker, name, 1) == [("OVERDUE", seq, reviewer.name)]
    await retain(threads, name, max_messages=2)
    found = await until_first(threads, name, 2)
    assert found.head_seq == 3
    (request,) = await listed(asker, thread=name)
    assert (request.seq, request.state) == (seq, REQUEST_STATE_CLOSED)


async def test_a_request_that_was_closed_with_its_message_is_not_due_later(
    bus: BusStub, threads: ThreadStub, asker: Peer, reviewer: Peer, name: str
) -> None:
    await create(threads, name, Retention(max_messages=3))
    first = await ask(asker, name, reviewer.name, within=600)
    later = await ask(asker, name, reviewer.name, within=3)
    await post(bus, name, 3)
    # One notice for each: the second is closed or overdue, whichever comes first.
    assert sorted(await noticed(asker, name, 2)) == [
        ("OVERDUE", first, reviewer.name),
        ("OVERDUE", later, reviewer.name),
    ]
    await until_first(threads, name, 5)
    assert set((await states(asker, name)).values()) == {"CLOSED"}
    assert await noticed(asker, name, 2) == [
        ("OVERDUE", first, reviewer.name),
        ("OVERDUE", later, reviewer.name),
    ]


async def test_a_reply_to_a_removed_question_answers_nothing(
    bus: BusStub, threads: ThreadStub, asker: Peer, reviewer: Peer, name: str
) -> None:
    await create(threads, name, Retention(max_messages=2))
    seq = await ask(asker, name, reviewer.name)
    await post(bus, name, 2)
    await until_first(threads, name, 3)
    posted = await reviewer.post(name, "late", reply_to=seq)
    assert await states(asker, name) == {(seq, reviewer.name): "CLOSED"}
    (request,) = await listed(asker, thread=name)
    assert request.reply_seq == 0
    message = (await bus.GetMessage(GetMessageRequest(thread=name, seq=posted.seq))).message
    assert message.reply_to == seq


async def test_removed_requests_cannot_be_withdrawn_but_that_changes_nothing(
    bus: BusStub, threads: ThreadStub, asker: Peer, reviewer: Peer, name: str
) -> None:
    await create(threads, name, Retention(max_messages=2))
    seq = await ask(asker, name, reviewer.name)
    await post(bus, name, 2)
    found = await until_first(threads, name, 3)
    (request,) = await withdraw(asker, name, seq)
    assert request.state == REQUEST_STATE_CLOSED
    assert (await until_first(threads, name, 3)).head_seq == found.head_seq


async def test_requests_stay_listed_for_a_thousand_further_entries(
    bus: BusStub, threads: ThreadStub, asker: Peer, reviewer: Peer, name: str
) -> None:
    await create(threads, name, Retention(max_messages=1))
    seq = await ask(asker, name, reviewer.name)
    await post(bus, name, 998)
    await until_first(threads, name, 1_000)  # with the notice
    assert await states(asker, name) == {(seq, reviewer.name): "CLOSED"}
    await post(bus, name, 10)
    await until_first(threads, name, 1_010)
    assert await states(asker, name) == {}
    refusal = await refused(withdraw(asker, name, seq))
    assert refusal.fields == ["seq"]


async def test_a_request_that_is_closed_does_not_keep_its_agent_working(
    bus: BusStub,
    agents: AgentStub,
    threads: ThreadStub,
    asker: Peer,
    reviewer: Peer,
    name: str,
) -> None:
    await create(threads, name, Retention(max_messages=1))
    await ask(asker, name, reviewer.name)
    await post(bus, name, 1)
    await until_first(threads, name, 3)
    async with reviewer.wait(name) as wait:
        await wait.until("caught_up")

        async def waits() -> bool:
            return await state(agents, reviewer.name) == "WAITING"

        await until_known(waits)


# ── request_ids ─────────────────────────────────────────────────────────────────────────────────


async def test_a_request_id_lives_as_long_as_its_message(
    bus: BusStub, threads: ThreadStub, asker: Peer, other: Peer, name: str
) -> None:
    await create(threads, name, Retention(max_messages=2))
    for n in range(3):
        await asker.post(name, f"{n}", request_id=f"{n}")
        await other.post(name, f"{n}", request_id=f"{n}")
    await until_first(threads, name, 5)
    kept = await asker.post(name, "2", request_id="2")
    assert (kept.seq, kept.deduplicated) == (5, True)
    # Another post with it is refused while it is known.
    refusal = await refused(_post(asker, name, "another", "2"))
    assert (refusal.reason, refusal.metadata) == ("REQUEST_ID_REUSED", {"seq": "5"})
    again = await asker.post(name, "1", request_id="1")
    assert (again.seq, again.deduplicated) == (7, False)
    another = await other.post(name, "another", request_id="0")
    assert (another.seq, another.deduplicated) == (8, False)
    repeated = await other.post(name, "another", request_id="0")
    assert (repeated.seq, repeated.deduplicated) == (8, True)


async def _post(by: Peer, thread: str, content: str, request_id: str) -> None:
    await by.post(thread, content, request_id=request_id)


async def test_request_ids_of_large_messages_and_edits_go_too(
    bus: BusStub, threads: ThreadStub, asker: Peer, name: str
) -> None:
    await create(threads, name, Retention(max_messages=1))
    large = "x" * 300_000
    await asker.post(name, large, request_id="large")
    await asker.post(name, "edit", edit_of=1, request_id="edit")
    await post(bus, name, 1)
    await until_first(threads, name, 3)
    again = await asker.post(name, large, request_id="large")
    assert (again.seq, again.deduplicated) == (4, False)
    edit = await asker.post(name, "edit", edit_of=4, request_id="edit")
    assert (edit.seq, edit.deduplicated) == (5, False)


# ── Edits and replies ───────────────────────────────────────────────────────────────────────────


async def test_a_removed_message_cannot_be_edited(
    bus: BusStub, threads: ThreadStub, asker: Peer, name: str
) -> None:
    await create(threads, name, Retention(max_messages=2))
    await asker.post(name, "frist")
    await post(bus, name, 2)
    found = await until_first(threads, name, 2)

    async def edit() -> None:
        await asker.post(name, "first", edit_of=1)

    refusal = await refused(edit())
    assert (refusal.reason, refusal.resources) == (
        "MESSAGE_NOT_FOUND",
        [("message", f"{name}/1")],
    )
    assert "not kept any more" in refusal.message
    assert (await until_first(threads, name, 2)).head_seq == found.head_seq


async def test_an_edit_whose_message_is_gone_can_be_read(
    bus: BusStub, threads: ThreadStub, asker: Peer, name: str
) -> None:
    await create(threads, name, Retention(max_messages=2))
    await asker.post(name, "frist")
    await asker.post(name, "first", edit_of=1)
    await asker.post(name, "last")
    await until_first(threads, name, 2)
    for wanted in (MessageFilter(), MessageFilter(senders=[asker.name])):
        messages = await Peer(bus).read(name, filter=wanted)
        assert [(each.seq, each.edit_of, each.content) for each in messages] == [
            (2, 1, "first"),
            (3, 0, "last"),
        ]


async def test_a_reply_to_a_removed_message_is_accepted(
    bus: BusStub, threads: ThreadStub, asker: Peer, reviewer: Peer, name: str
) -> None:
    await shorten(bus, threads, name, first=3, head=4)
    await retain(threads, name, max_messages=100)
    posted = await reviewer.post(name, "as I said", reply_to=1, mentions=[asker.name])
    message = (await bus.GetMessage(GetMessageRequest(thread=name, seq=posted.seq))).message
    assert (message.reply_to, list(message.mentions)) == (1, [asker.name])
    refusal = await refused(_reply(reviewer, name, posted.seq + 1))
    assert refusal.reason == "MESSAGE_NOT_FOUND"


async def _reply(by: Peer, thread: str, seq: int) -> None:
    await by.post(thread, "to whom?", reply_to=seq)


async def test_an_answer_to_a_message_that_is_gone_is_still_addressed_to_its_author(
    bus: BusStub, threads: ThreadStub, asker: Peer, reviewer: Peer, name: str
) -> None:
    await create(threads, name)
    await asker.post(name, "?")
    await reviewer.post(name, "!", reply_to=1, wakes=WAKE_ADDRESSED)
    await retain(threads, name, max_messages=2)
    await until_first(threads, name, 2)
    await reviewer.post(name, "!!", reply_to=1, wakes=WAKE_ADDRESSED)  # to nobody that is known
    inbox = MessageFilter(addressed_to_me=True)
    (each,) = (await beat(bus, caller_of(asker), lease=600)).unread
    assert (each.head_seq, each.addressed_count) == (4, 1)
    fields: dict[str, Any]
    for fields in ({"threads": [Cursor(thread=name, after_seq=1)]}, {"all_my_threads": True}):
        request = WaitMessagesRequest(filter=inbox, min_messages=1, observe=True, **fields)
        call = bus.WaitMessages(request, timeout=BOUND, metadata=asker.metadata)
        frames = [frame async for frame in call]
        assert [message.seq for message in messages_in(frames)] == [2]
        assert frames[-1].ending.reason == WaitEnding.REASON_MIN_MESSAGES
    page = await bus.ListMessages(
        ListMessagesRequest(thread=name, filter=inbox), metadata=asker.metadata
    )
    assert [message.seq for message in page.messages] == [2]
