"""Posts: their seqs, what is stored of them, and what is refused."""

from typing import Any

import pytest

from bus_server.errors import (
    AgentExists,
    AgentNotFound,
    BusError,
    CursorInvalid,
    ExpectedSeqRequired,
    MessageNotFound,
    RequestIdReused,
    SeqConflict,
    ThreadClosed,
    ThreadNotFound,
    ValidationFailed,
)
from bus_server.store import AppendMany, Command, UnregisterAgent
from bus_server.store.interface import Store
from tests.store.commits import (
    LARGE,
    TEXTS,
    commit,
    create,
    log,
    outcomes,
    participants,
    post,
    refusal,
    register,
    set_mode,
    set_state,
)
from threadbus.v1.agent_pb2 import AGENT_KIND_AGENT, AGENT_KIND_HUMAN
from threadbus.v1.message_pb2 import PRIORITY_URGENT, WAKE_ALL, Attachment, Message
from threadbus.v1.thread_pb2 import SYNC_MODE_STRICT, THREAD_STATE_ARCHIVED, THREAD_STATE_OPEN


async def test_each_thread_counts_its_entries_from_one_without_gaps(store: Store) -> None:
    await commit(store, create("t"), create("u"))
    names = ["t", "u", "t", "t", "u"]
    together = await commit(store, *(post(name) for name in names))
    apart = [(await commit(store, post(name)))[0] for name in names]
    assert [done.seq for done in together] == [1, 1, 2, 3, 2]
    assert [done.seq for done in apart] == [4, 3, 5, 6, 4]
    assert len(await log(store, "t")) == 6
    assert len(await log(store, "u")) == 4


async def test_a_commit_of_hundreds_of_posts_stores_each_one(store: Store) -> None:
    names = [f"t{number}" for number in range(7)]
    await commit(store, *map(create, names))
    posts = [post(names[number % 7], content=f"{number}") for number in range(400)]
    (done,) = await commit(store, AppendMany(posts))
    assert [each.seq for each in done] == [number // 7 + 1 for number in range(400)]
    for at, name in enumerate(names):
        contents = [entry.content for entry in await log(store, name)]
        assert contents == [f"{number}" for number in range(at, 400, 7)]


async def test_the_answer_says_where_the_post_was_stored(store: Store) -> None:
    (thread,) = await commit(store, create())
    first, second = await commit(store, post(), post())
    assert (first.seq, first.last_seq, first.deduplicated) == (1, 1, False)
    assert (second.seq, second.last_seq, second.deduplicated) == (2, 2, False)
    assert first.epoch == second.epoch == thread.epoch
    assert [entry.create_time for entry in await log(store)] == [
        first.create_time,
        second.create_time,
    ]


@pytest.mark.parametrize("text", [*TEXTS.values(), LARGE], ids=[*TEXTS, "large"])
async def test_a_message_is_stored_exactly_as_posted(store: Store, text: str) -> None:
    await commit(store, create(), register("ann"), register("ben"))
    await commit(store, post())
    given = post(
        content=text,
        labels={text[:60]: text[:200], "key": ""},
        attachments=[
            Attachment(filename=text, media_type=text, raw=text.encode()),
            Attachment(url=text),
        ],
        mentions=["ben", "ann"],
        handoff_to="ben",
        posted_by=text,
        priority=PRIORITY_URGENT,
        reply_to=1,
        based_on_seq=0,
        request_id='a "quoted" \\ %id',
    )
    (done,) = await commit(store, given)
    wanted = Message.FromString(given.body)
    wanted.seq, wanted.wakes = 2, WAKE_ALL
    wanted.create_time.CopyFrom(done.create_time)
    stored = (await log(store))[1]
    assert stored == wanted
    assert stored.HasField("based_on_seq")


async def test_the_longest_names_are_kept(store: Store) -> None:
    thread, agent, request_id = "T" + "-" * 127, "a" + "." * 62, "~" * 128
    await commit(store, create(thread), register(agent))
    given = post(thread, agent, mentions=[agent], request_id=request_id)
    await commit(store, given)
    (again,) = await commit(store, given)
    assert again.deduplicated
    (entry,) = await log(store, thread)
    assert (entry.thread, entry.sender, entry.request_id) == (thread, agent, request_id)
    assert list(await participants(store, thread)) == [agent]


# ── request_id ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("together", [True, False])
async def test_a_repeated_post_is_stored_once(store: Store, together: bool) -> None:
    await commit(store, create())
    posts = [post(request_id="a"), post(sender="ben"), post(request_id="a")]
    first, _, again = await outcomes(store, posts, together=together)
    assert (again.seq, again.deduplicated, again.last_seq) == (1, True, 2)
    assert again.create_time == first.create_time
    assert len(await log(store)) == 2


async def test_a_request_id_counts_for_one_sender_in_one_thread(store: Store) -> None:
    await commit(store, create("t"), create("u"))
    given = [("t", "ann"), ("t", "ben"), ("u", "ann"), ("u", "anonymous")]
    done = await commit(store, *(post(*each, request_id="a") for each in given))
    assert [each.deduplicated for each in done] == [False] * 4
    again = await commit(store, *(post(*each, request_id="a") for each in given))
    assert [each.deduplicated for each in again] == [True] * 4


@pytest.mark.parametrize("count", [1, 3, 4, 100])
async def test_any_number_of_posts_is_recognised_in_one_commit(store: Store, count: int) -> None:
    await commit(store, *(create(f"t{number}") for number in range(5)))
    ids = ["1", "\\n", '"', "'--", "%_", *(f"id {number}" for number in range(count))][:count]
    posts = [
        post(f"t{at % 5}", f"agent{at % 3}", content=each, request_id=each)
        for at, each in enumerate(ids)
    ]
    first = await commit(store, *posts)
    again = await commit(store, *posts)
    assert [each.deduplicated for each in again] == [True] * count
    assert [(each.seq, each.create_time) for each in again] == [
        (each.seq, each.create_time) for each in first
    ]


@pytest.mark.parametrize("fields", [{"content": "other"}, {"labels": {"a": "b"}}], ids=str)
@pytest.mark.parametrize("together", [True, False])
async def test_a_request_id_cannot_be_used_for_another_post(
    store: Store, fields: dict[str, Any], together: bool
) -> None:
    await commit(store, create(), post(sender="ben"))
    posts = [post(request_id="a"), post(request_id="a", **fields)]
    _, refused = await outcomes(store, posts, together=together)
    assert isinstance(refused, RequestIdReused)
    assert refused.metadata == {"seq": "2"}


CHANGES: dict[str, list[Command[Any]]] = {
    "the thread is closed": [set_state()],
    "the thread is archived": [set_state(state=THREAD_STATE_ARCHIVED)],
    "the thread is strict": [set_mode(SYNC_MODE_STRICT)],
    "the thread is longer": [post(sender="ben", content="more")],
    "the mentioned agent is gone": [UnregisterAgent("ben")],
    "the sender is gone": [UnregisterAgent("ann")],
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
@pytest.mark.parametrize("together", [True, False])
async def test_a_repeated_post_is_recognised_whatever_has_changed(
    store: Store, change: list[Command[Any]], together: bool
) -> None:
    await commit(store, create(), register("ann"), register("ben"))
    (first,) = await commit(store, post(expected=0, mentions=["ben"], request_id="a"))
    retry = post(expected=0, epoch="another", mentions=["ben"], request_id="a", register=True)
    *_, again = await outcomes(store, [*change, retry], together=together)
    assert (again.seq, again.deduplicated) == (first.seq, True)


# ── Refusals ────────────────────────────────────────────────────────────────────────────────────


async def test_posts_are_checked_in_the_documented_order(store: Store) -> None:
    await commit(store, create(), post(request_id="a"), set_mode(SYNC_MODE_STRICT), set_state())
    wrong: dict[str, Any] = {"content": "other", "reply_to": 9, "mentions": ["nobody"]}
    reused = post(epoch="another", request_id="a", **wrong)
    assert isinstance(await refusal(store, reused), RequestIdReused)
    assert isinstance(await refusal(store, post(epoch="another", **wrong)), CursorInvalid)
    assert isinstance(await refusal(store, post(**wrong)), ThreadClosed)
    await commit(store, set_state(state=THREAD_STATE_OPEN))
    assert isinstance(await refusal(store, post(**wrong)), ExpectedSeqRequired)
    assert isinstance(await refusal(store, post(expected=9, **wrong)), SeqConflict)
    missing = await refusal(store, post(expected=4, **wrong))
    assert isinstance(missing, (MessageNotFound, AgentNotFound))


async def test_a_post_to_a_missing_thread_learns_of_similar_names(store: Store) -> None:
    await commit(store, create("Plan"), create("PLAN"), create("plans"))
    refused = await refusal(store, post("plan", request_id="a"))
    assert isinstance(refused, ThreadNotFound)
    assert sorted(refused.similar) == ["PLAN", "Plan"]


@pytest.mark.parametrize("together", [True, False])
async def test_of_posts_that_expect_the_same_head_one_is_stored(
    store: Store, together: bool
) -> None:
    await commit(store, create())
    posts = [post(expected=0), post(expected=0), post(expected=1)]
    first, conflict, second = await outcomes(store, posts, together=together)
    assert (first.seq, second.seq) == (1, 2)
    assert isinstance(conflict, SeqConflict)
    assert conflict.metadata == {"expected": "0", "last_seq": "1"}


@pytest.mark.parametrize("together", [True, False])
async def test_in_a_strict_thread_only_people_post_without_what_they_expect(
    store: Store, together: bool
) -> None:
    steps: list[Command[Any]] = [
        create(),
        set_mode(SYNC_MODE_STRICT),
        post(),
        post(sender_kind=AGENT_KIND_HUMAN),
        post(expected=2),
    ]
    _, _, refused, person, agent = await outcomes(store, steps, together=together)
    assert isinstance(refused, ExpectedSeqRequired)
    assert (person.seq, agent.seq) == (2, 3)


@pytest.mark.parametrize("together", [True, False])
async def test_a_thread_takes_posts_only_while_it_is_open(store: Store, together: bool) -> None:
    await commit(store, create())
    steps: list[Command[Any]] = [
        set_state(),
        post(),
        set_state(state=THREAD_STATE_ARCHIVED),
        post(),
        set_state(state=THREAD_STATE_OPEN),
        post(),
    ]
    _, closed, _, archived, _, taken = await outcomes(store, steps, together=together)
    assert isinstance(closed, ThreadClosed)
    assert isinstance(archived, ThreadClosed)
    assert taken.seq == 4


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        pytest.param({"reply_to": 3}, MessageNotFound, id="reply"),
        pytest.param({"edit_of": 3}, MessageNotFound, id="edit"),
        pytest.param({"based_on_seq": 3}, ValidationFailed, id="based on"),
        pytest.param({"mentions": ["ann", "nobody"]}, AgentNotFound, id="mention"),
        pytest.param({"handoff_to": "nobody"}, AgentNotFound, id="handoff"),
        pytest.param({"mentions": ["gone"]}, AgentNotFound, id="unregistered"),
    ],
)
async def test_a_post_must_not_name_what_does_not_exist(
    store: Store, fields: dict[str, Any], error: type[BusError]
) -> None:
    await commit(store, create(), register("ann"), register("gone"), UnregisterAgent("gone"))
    await commit(store, post(), post())
    assert isinstance(await refusal(store, post(**fields)), error)
    assert list(await participants(store)) == ["ann"]


async def test_a_post_may_name_what_its_commit_adds(store: Store) -> None:
    given = post(reply_to=1, based_on_seq=1, mentions=["ben"], handoff_to="cyd")
    await commit(store, create(), post(), register("ben"), register("cyd"), given)
    assert list(await participants(store)) == ["ann", "ben", "cyd"]


async def test_all_unknown_agents_are_reported(store: Store) -> None:
    await commit(store, create(), register("ben"))
    given = post(mentions=["zoe", "ben", "dan"], handoff_to="ann")
    refused = await refusal(store, given)
    assert [name for _, name in refused.resources] == ["ann", "dan", "zoe"]


# ── Many posts, and posts on behalf of agents ───────────────────────────────────────────────────


async def test_each_of_many_posts_has_its_own_outcome(store: Store) -> None:
    await commit(store, create("t"), create("u"))
    posts = [
        post("t", content="one", request_id="a"),
        post("nowhere"),
        post("u", expected=0),
        post("t", content="one", request_id="a"),
        post("u", expected=0),
        post("t", content="two", reply_to=1),
    ]
    (done,) = await commit(store, AppendMany(posts))
    assert isinstance(done[1], ThreadNotFound)
    assert isinstance(done[4], SeqConflict)
    assert [done[at].seq for at in (0, 2, 3, 5)] == [1, 1, 1, 2]
    assert [done[at].deduplicated for at in (0, 2, 3, 5)] == [False, False, True, False]


async def test_a_post_on_behalf_registers_its_sender(store: Store) -> None:
    await commit(store, create())
    await commit(store, post(sender="bot", register=True), post(mentions=["bot"]))
    agent = await store.agent("bot")
    assert agent is not None
    assert agent.kind == AGENT_KIND_AGENT
    assert agent.HasField("create_time")


async def test_a_post_on_behalf_has_its_senders_kind(store: Store) -> None:
    await commit(store, create(), set_mode(SYNC_MODE_STRICT))
    await commit(store, register("eve", kind=AGENT_KIND_HUMAN))
    await commit(store, post(sender="eve", register=True))  # as people may in a strict thread
    assert (await log(store))[-1].sender_kind == AGENT_KIND_HUMAN


async def test_a_refused_post_on_behalf_registers_nobody(store: Store) -> None:
    await commit(store, create())
    await refusal(store, post(sender="bot", register=True, mentions=["nobody"]))
    assert await store.agent("bot") is None


async def test_no_post_is_made_on_behalf_of_an_unregistered_agent(store: Store) -> None:
    await commit(store, create(), register("bot"), UnregisterAgent("bot"))
    assert isinstance(await refusal(store, post(sender="bot", register=True)), AgentExists)
    assert await log(store) == []
