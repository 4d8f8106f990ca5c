"""Whatever is committed, both engines return and show the same."""

import asyncio
import itertools
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from bus_server import store
from bus_server.store.facts import Facts
from bus_server.store.interface import Store
from bus_server.store.postgres import committer, gather
from bus_server.store.sqlite import writes
from tests import own_bus
from tests.postgres.cluster import Cluster
from tests.postgres.stores import opened
from tests.sqlite.test_store_batches import NOW, THEN, commands, plain, threads
from tests.store.commits import everything, participants

Batches = Sequence[Sequence[store.Command[Any]]]

#: They are not in `commands`: one sees only entries of earlier commits, and the rest all before it.
removals: st.SearchStrategy[store.Command[Any]] = st.one_of(
    st.builds(
        store.Compact,
        threads,
        st.builds(
            store.Limits,
            max_age=st.sampled_from([0, 1, THEN]),
            max_messages=st.integers(0, 3),
            max_bytes=st.sampled_from([0, 200]),
        ),
        st.none() | st.builds(store.Counted, st.integers(1, 4), st.integers(0, 1_000)),
    ),
    st.builds(store.ForgetAddressed, threads),
)


class Clock:
    """The time of all commits, in microseconds, instead of that of the engines."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = NOW
        gather_facts, run = gather.gather, writes.run

        async def gathered(*args: Any) -> Facts:
            facts = await gather_facts(*args)
            facts.now = facts.store_now = self.now
            return facts

        def ran(db: Any, commands: Any, *times: int) -> store.Commit:
            return run(db, commands, self.now, self.now, self.now, times[-1])  # type: ignore[arg-type]

        patch.setattr(committer, "gather", gathered)
        patch.setattr(writes, "run", ran)


async def shown(batches: Batches, through: Store, clock: Clock) -> list[Any]:
    """Commit batches. Returns what the commits and reads return, without the ids of threads."""
    found: list[Any] = []
    epochs = itertools.count()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(secrets, "token_hex", lambda _: f"epoch-{next(epochs)}")
        for number, batch in enumerate(batches):
            clock.now = NOW + number * THEN
            done = await through.commit(batch)
            outcomes = [
                outcome._replace(thread_id=0) if isinstance(outcome, store.Joined) else outcome
                for outcome in map(plain, done.outcomes)
            ]
            state = await everything(through)
            state["presence"].sort(key=lambda row: row.agent)  # their order is not promised
            heads = (done.heads, done.compacted, state.pop("heads"))
            found += [
                outcomes,
                [{name: head[1:] for name, head in each.items()} for each in heads],
                [kept[1:] for kept in await through.kept(0, 10, every=True)],
                (done.entries, done.edited, done.deleted, done.agents_changed),
                state,
                [await participants(through, thread.name) for thread in state["threads"]],
                [await through.owner(token) for token in (b"1", b"2", b"3", b"4")],
                [await through.unread(agent, 10) for agent in ("ann", "ben", "cyd")],
            ]
    return found


@pytest.mark.slow
@pytest.mark.timeout(300)  # a failure is shrunk before it is reported
@settings(
    deadline=None,
    max_examples=40,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(st.lists(commands | removals, min_size=1, max_size=12), min_size=1, max_size=4))
def test_both_engines_do_the_same(
    postgres: Cluster, tmp_path_factory: pytest.TempPathFactory, batches: Batches
) -> None:
    async def on_both(url: str, db: Path, clock: Clock) -> tuple[list[Any], list[Any]]:
        async with own_bus.opened(db) as sqlite, opened(url, durability="fast") as postgresql:
            return await shown(batches, sqlite, clock), await shown(batches, postgresql, clock)

    with postgres.schema() as url, pytest.MonkeyPatch.context() as patch:
        db = tmp_path_factory.mktemp("sqlite") / "bus.db"
        on_sqlite, on_postgresql = asyncio.run(on_both(url, db, Clock(patch)))
    for other, one in zip(on_postgresql, on_sqlite, strict=True):
        assert other == one
