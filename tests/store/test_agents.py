"""Agents, and the tokens by which they and operators are known."""

from typing import Any

import pytest

from bus_server.errors import (
    AccessDenied,
    AgentExists,
    AgentNotFound,
    TokenExpired,
    TokenInvalid,
    ValidationFailed,
)
from bus_server.store import (
    Checkpoint,
    Command,
    CreateToken,
    RegisterAgent,
    Registered,
    RevokeToken,
    RotateToken,
    SetOperatorToken,
    TokenOwner,
    UnregisterAgent,
    UpdateAgent,
)
from bus_server.store.interface import Store
from tests.store.commits import (
    TEXTS,
    commit,
    create,
    is_revoked,
    join,
    listed,
    log,
    outcomes,
    participants,
    post,
    refusal,
    register,
    sighting,
)
from tests.store.conftest import Database
from threadbus.limits import MAX_GRACE
from threadbus.v1.agent_pb2 import AGENT_KIND_AGENT, AGENT_KIND_HUMAN, Agent

MINUTE = 60_000_000  # microseconds
USUAL = ("post", "read")
HASH = bytes(range(32))


# ── Registering ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
async def test_an_agent_is_stored_exactly_as_registered(store: Store, text: str) -> None:
    settings: dict[str, Any] = {
        "display_name": text,
        "description": text * 20,
        "labels": {text: text, "a": ""},
    }
    (done,) = await commit(store, register(kind=AGENT_KIND_HUMAN, **settings))
    assert done.created
    assert await store.agent("ann") == done.agent
    assert (done.agent.name, done.agent.kind) == ("ann", AGENT_KIND_HUMAN)
    assert done.agent.HasField("create_time")
    for field, value in settings.items():
        assert getattr(done.agent, field) == value


@pytest.mark.parametrize("together", [True, False])
async def test_registering_again_with_the_token_returns_the_agent_as_it_is(
    store: Store, together: bool
) -> None:
    again = register(description="second", kind=AGENT_KIND_HUMAN)
    steps: list[Command[Any]] = [register(description="first"), again]
    first, second = await outcomes(store, steps, together=together)
    assert second == Registered(first.agent, created=False)
    assert await store.agent("ann") == first.agent


@pytest.mark.parametrize("operator", [True, False])
@pytest.mark.parametrize("together", [True, False])
async def test_a_name_is_taken_by_the_token_it_was_registered_with(
    store: Store, operator: bool, together: bool
) -> None:
    steps: list[Command[Any]] = [register(), register("ann", b"other", operator=operator)]
    _, refused = await outcomes(store, steps, together=together)
    assert isinstance(refused, AgentExists)
    assert await store.owner(b"other") is None


@pytest.mark.parametrize("together", [True, False])
async def test_an_agent_without_a_token_can_only_be_claimed_and_only_once(
    store: Store, together: bool
) -> None:
    steps: list[Command[Any]] = [
        create(),
        post(register=True),
        register("ann", b"one"),
        register("ann", b"two", operator=True),
        register("ann", b"three", operator=True),
    ]
    _, _, unclaimed, claimed, late = await outcomes(store, steps, together=together)
    assert isinstance(unclaimed, AgentExists)
    assert not claimed.created
    assert isinstance(late, AgentExists)
    assert await store.expire_times([b"one", b"two", b"three"]) == {b"two": 0}


@pytest.mark.parametrize("together", [True, False])
async def test_a_token_belongs_to_one_agent(store: Store, together: bool) -> None:
    steps: list[Command[Any]] = [
        register("ann", HASH),
        register("ben", HASH),
        SetOperatorToken(b"operator"),
        register("ben", b"operator"),
    ]
    _, refused, _, operator = await outcomes(store, steps, together=together)
    assert isinstance(refused, ValidationFailed)
    assert isinstance(operator, ValidationFailed)
    assert await store.agent("ben") is None


# ── Changing and unregistering ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("together", [True, False])
async def test_only_the_given_fields_of_an_agent_change(store: Store, together: bool) -> None:
    settings = Agent(display_name="no", description="new", labels={"new": "label"})
    steps: list[Command[Any]] = [
        register(display_name="Ann", description="old", labels={"old": "label"}),
        UpdateAgent("ann", settings, ["description", "labels"]),
    ]
    _, agent = await outcomes(store, steps, together=together)
    assert (agent.display_name, agent.description, agent.labels) == ("Ann", "new", {"new": "label"})
    assert await store.agent("ann") == agent


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
async def test_a_changed_description_is_kept_exactly(store: Store, text: str) -> None:
    await commit(store, register(), UpdateAgent("ann", Agent(description=text), ["description"]))
    agent = await store.agent("ann")
    assert agent is not None
    assert agent.description == text


@pytest.mark.parametrize("together", [True, False])
async def test_an_unregistered_agent_loses_all_but_its_messages(
    store: Store, together: bool
) -> None:
    steps: list[Command[Any]] = [
        create(),
        create("u"),
        register(),
        register("ben"),
        join("u"),
        post(),
    ]
    await outcomes(store, [*steps, UnregisterAgent("ann")], together=together)
    assert await store.agent("ann") is None
    assert [agent.name for agent in await store.list_agents(10, "")] == ["ben"]
    assert await is_revoked(store, b"ann")
    assert await participants(store, "t") == await participants(store, "u") == {}
    assert await listed(store, "ann") == []
    assert await store.unread("ann", 10) == []
    assert [entry.sender for entry in await log(store)] == ["ann"]


@pytest.mark.parametrize("together", [True, False])
async def test_the_name_of_an_unregistered_agent_remains_taken(
    store: Store, together: bool
) -> None:
    steps: list[Command[Any]] = [
        register(),
        UnregisterAgent("ann"),
        register(),
        register("ann", b"new"),
    ]
    _, _, same, other = await outcomes(store, steps, together=together)
    assert isinstance(same, AgentExists)
    assert isinstance(other, AgentExists)
    assert await store.owner(b"new") is None


async def test_an_operator_registers_an_unregistered_name_again(store: Store) -> None:
    await commit(store, create(), register(description="old"), join(), post())
    # In one batch with its end, a name is not given again.
    again = register("ann", b"new", kind=AGENT_KIND_HUMAN, description="new")
    _, together = (await store.commit([UnregisterAgent("ann"), again])).outcomes
    assert isinstance(together, AgentExists)
    (registered,) = await commit(store, again)
    assert registered.created
    agent = await store.agent("ann")
    assert agent == registered.agent
    assert (agent.kind, agent.description) == (AGENT_KIND_HUMAN, "new")
    assert await store.owner(b"new") == TokenOwner("ann", AGENT_KIND_HUMAN, 0, USUAL, ())
    assert await is_revoked(store, b"ann")
    assert await participants(store) == {}
    seen = Checkpoint([sighting("ann", store.clock.now())], {})
    await commit(store, join(), post(sender_kind=AGENT_KIND_HUMAN), seen)
    assert list(await participants(store)) == ["ann"]
    assert [row.agent for row in await store.presence_rows(0)] == ["ann"]
    # Again in the same batch as a change and its end.
    change = UpdateAgent("ann", Agent(description="newer"), ["description"])
    await commit(store, UnregisterAgent("ann"))
    await commit(store, again, change, UnregisterAgent("ann"))
    assert await store.agent("ann") is None
    (registered, changed) = await commit(store, again, change)
    assert (registered.created, changed.description) == (True, "newer")
    assert await store.agent("ann") == changed


@pytest.mark.parametrize("together", [True, False])
async def test_only_an_operator_registers_people(store: Store, together: bool) -> None:
    person = Agent(name="ann", kind=AGENT_KIND_HUMAN)
    steps: list[Command[Any]] = [
        RegisterAgent(person, b"own", operator=False),
        RegisterAgent(person, b"given", operator=True),
        RegisterAgent(person, b"given", operator=False),
    ]
    refused, registered, repeated = await outcomes(store, steps, together=together)
    assert isinstance(refused, AccessDenied)
    assert registered.created
    assert repeated == Registered(registered.agent, created=False)
    assert await store.owner(b"own") is None


@pytest.mark.parametrize("together", [True, False])
async def test_an_unregistered_agent_does_not_become_a_participant(
    store: Store, together: bool
) -> None:
    gone: list[Command[Any]] = [create(), register(), join(), UnregisterAgent("ann")]
    await outcomes(store, [*gone, post(), join(), post(sender="ben")], together=together)
    assert list(await participants(store)) == ["ben"]


# ── Tokens ──────────────────────────────────────────────────────────────────────────────────────


async def test_a_token_has_an_owner(store: Store) -> None:
    await commit(store, register("ann", HASH, kind=AGENT_KIND_HUMAN), register("ben", HASH[::-1]))
    await commit(store, SetOperatorToken(b"operator"))
    assert await store.owner(HASH) == TokenOwner("ann", AGENT_KIND_HUMAN, 0, USUAL, ())
    assert await store.owner(HASH[::-1]) == TokenOwner(
        "ben", AGENT_KIND_AGENT, 0, ("post", "read"), ()
    )
    assert await store.owner(b"operator") == TokenOwner("", 0, 0, ("post", "read", "admin"), ())
    assert await store.owner(HASH[:31]) is None
    assert await store.owner(b"") is None


async def test_after_a_rotation_only_the_new_token_lasts(store: Store) -> None:
    soon, later = (store.clock.now() + minutes * MINUTE for minutes in (1, 2))
    await commit(store, register("ann", b"one"), register("ben", b"ben"))
    assert await commit(store, RotateToken(b"one", b"two", later)) == [{b"one": later}]
    # The answer was lost: the old token is rotated again.
    (ends,) = await commit(store, RotateToken(b"one", b"three", later + MINUTE))
    assert ends == {b"one": later, b"two": later + MINUTE}
    (ends,) = await commit(store, RotateToken(b"three", b"four", soon))
    assert ends == {b"one": soon, b"two": soon, b"three": soon}
    tokens = [b"one", b"two", b"three", b"four", b"ben", b"none"]
    assert await store.expire_times(tokens) == ends | {b"four": 0, b"ben": 0}
    assert await store.owner(b"two") == TokenOwner(
        "ann", AGENT_KIND_AGENT, soon, ("post", "read"), ()
    )


@pytest.mark.parametrize("together", [True, False])
async def test_an_operator_replaces_all_tokens_of_an_agent(store: Store, together: bool) -> None:
    soon, later = (store.clock.now() + minutes * MINUTE for minutes in (1, 2))
    steps: list[Command[Any]] = [
        create(),
        register("ann", b"one"),
        register("ben", b"ben"),
        RotateToken(b"one", b"two", later),
        RotateToken(b"ben", b"three", soon, "ann"),
        post(sender="eve", register=True),
        RotateToken(b"", b"eve", soon, "eve"),
        RotateToken(b"ben", b"none", soon, "nobody"),
    ]
    *_, ends, _, none, refused = await outcomes(store, steps, together=together)
    assert ends == {b"one": soon, b"two": soon}
    assert none == {}
    assert isinstance(refused, AgentNotFound)
    assert await store.expire_times([b"one", b"two", b"three", b"ben", b"eve"]) == ends | {
        b"three": 0,
        b"ben": 0,
        b"eve": 0,
    }
    assert await store.owner(b"three") == TokenOwner(
        "ann", AGENT_KIND_AGENT, 0, ("post", "read"), ()
    )


async def test_an_expired_token_is_told_from_an_unknown_one(store: Store) -> None:
    await commit(store, register("ann", b"one"))
    await commit(store, RotateToken(b"one", b"two", store.clock.now()))
    assert isinstance(await refusal(store, RotateToken(b"one", b"x", 1 << 60)), TokenExpired)
    assert isinstance(await refusal(store, register("ann", b"one")), TokenExpired)
    assert isinstance(await refusal(store, RotateToken(b"none", b"x", 1 << 60)), TokenInvalid)
    owner = await store.owner(b"one")
    assert owner is not None
    assert 0 < owner.expire_time <= store.clock.now()
    (again,) = await commit(store, register("ann", b"two"))
    assert not again.created


async def test_a_rotated_token_lasts_at_most_the_longest_grace_after_a_start(
    database: Database,
) -> None:
    async with database() as first:
        await commit(first, register("ann", b"one"), RotateToken(b"one", b"two", 1 << 60))
    async with database() as second:
        ends = await second.expire_times([b"one", b"two"])
        longest = second.clock.now() + round(MAX_GRACE * 1e6)
    assert ends[b"two"] == 0
    assert abs(longest - ends[b"one"]) < MINUTE


@pytest.mark.parametrize("together", [True, False])
async def test_there_is_one_operator_token(store: Store, together: bool) -> None:
    steps: list[Command[Any]] = [register(), SetOperatorToken(b"one"), SetOperatorToken(b"two")]
    await outcomes(store, [*steps, SetOperatorToken(b"two")], together=together)
    assert await store.owner(b"one") is None
    assert await store.owner(b"two") == TokenOwner("", 0, 0, ("post", "read", "admin"), ())
    assert await store.owner(b"ann") == TokenOwner("ann", AGENT_KIND_AGENT, 0, USUAL, ())


@pytest.mark.parametrize("together", [True, False])
async def test_a_token_that_ended_is_nobody_elses(store: Store, together: bool) -> None:
    created = CreateToken(b"one", "ann", ("post", "read", "admin"), (), 0)
    (token, _, _) = await commit(store, created, register("ben", b"two"), register("cyd", b"three"))
    ending: list[Command[Any]] = [
        RevokeToken(token.token_id, b""),
        UnregisterAgent("ben"),
        RotateToken(b"three", b"new", 2),
        RotateToken(b"new", b"newer", 2),
    ]
    stealing = [register(f"eve-{n}", key) for n, key in enumerate((b"one", b"two", b"three"))]
    done = await outcomes(store, [*ending, *stealing], together=together)
    for outcome in done[4:6]:
        assert isinstance(outcome, ValidationFailed)
    owner = await store.owner(b"three")
    assert owner is None or owner.agent != "cyd" or owner.expire_time
    for key in (b"one", b"two"):
        assert await is_revoked(store, key)
