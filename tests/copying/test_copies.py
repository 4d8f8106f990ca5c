"""`threadbus copy` between the engines: all that a store holds is in the copy."""

import asyncio
from collections.abc import Callable

import pytest

from tests.callers import operator_token_file
from tests.connections import connected
from tests.copying.conftest import ENGINES, Furnished, NewPlace
from tests.copying.stores import copied, shown
from tests.peers import Peer
from tests.refusals import refused
from tests.requests import states
from tests.store.commits import TEXTS

pytestmark = pytest.mark.slow

MINUTE = 60_000_000
DAY = 1_440 * MINUTE
#: The columns with times of the store's clock.
CLOCKS = {
    "presence": ("last_seen_time", "lease_end_time", "state_time", "work_time", "working_end_time"),
    "asked": ("open_time", "due", "0"),
    "token": ("expire_time", "end_time", "0"),
}

PAIRS = [(source, target) for source in ENGINES for target in ENGINES]


@pytest.mark.parametrize(("source", "target"), PAIRS)
async def test_a_server_on_a_copy_shows_what_one_on_the_store_did(
    furnished: Callable[[str], Furnished],
    new_place: NewPlace,
    source: str,
    target: str,
) -> None:
    place, callers, before = await asyncio.to_thread(furnished, source)
    copy = new_place(target)
    copied(place, copy)
    # The operator's token is in the store, and its file is the user's to move.
    token = operator_token_file(place.db).read_text("ascii")
    operator_token_file(copy.db).touch(0o600)
    operator_token_file(copy.db).write_text(token, "ascii")
    with copy.serve() as server:
        assert await shown(server, callers) == before
        async with connected(server.address) as to:
            ann, ben = Peer(to.bus, callers.ann), Peer(to.bus, callers.ben)
            # A repeated post is the same post, and another one of that request_id is refused.
            (text, *_) = TEXTS.values()
            repeated = await ann.post("deal", text, request_id="r-0", labels={"é": text})
            assert (repeated.seq, repeated.deduplicated) == (1, True)
            assert (await refused(ann.post("deal", "other", request_id="r-0"))).reason == (
                "REQUEST_ID_REUSED"
            )
            # The limited token reads what it may, and the rotated one still works.
            limited = Peer(to.bus, callers.limited)
            assert await limited.read("deal")
            assert (await refused(limited.read("strict"))).reason == "THREAD_NOT_FOUND"
            assert (await Peer(to.bus, callers.former).post("deal", "me")).seq
            # A thread without entries goes on where it was, and its request_ids went with them.
            posted = await ben.post("emptied", "text", request_id="r-0")
            assert (posted.seq, posted.deduplicated) == (6, False)
            # An open request is answered by a reply.
            asked = (await states(ann, "asks")).items()
            seq = max(seq for (seq, agent), state in asked if (agent, state) == ("ben", "OPEN"))
            await ben.post("asks", "now", reply_to=seq)
            assert (await states(ann, "asks"))[seq, "ben"] == "ANSWERED"


@pytest.mark.parametrize(("source", "target"), [ENGINES, ENGINES[::-1]])
async def test_a_store_whose_server_was_killed_is_copied_with_all_that_was_acknowledged(
    new_place: NewPlace, source: str, target: str
) -> None:
    place, copy = new_place(source), new_place(target)
    with place.serve() as server:
        async with connected(server.address, "t") as to:
            await Peer(to.bus).post_all("t", "one", "two")
        server.kill()
    await asyncio.to_thread(copied, place, copy)
    with copy.serve() as server:
        async with connected(server.address) as to:
            assert [each.content for each in await Peer(to.bus).read("t")] == ["one", "two"]


@pytest.mark.parametrize("target", ENGINES)
def test_rows_of_deleted_threads_are_left_out_and_their_ids_stay_used(
    new_place: NewPlace, target: str
) -> None:
    place, copy = new_place("sqlite"), new_place(target)
    with place.serve():
        pass
    place.execute(
        "INSERT INTO sqlite_sequence VALUES ('thread', 7)",
        "INSERT INTO purge VALUES (7)",
        "INSERT INTO message VALUES (7 << 32 | 1, 1, 'ann', x'')",
        "INSERT INTO request VALUES (7, 'ann', 'r', 1, x'')",
    )
    copied(place, copy)
    found = copy.tables()
    assert not found["message"] + found["request"] + found["purge"]
    if target == "sqlite":
        assert found["sqlite_sequence"] == [("thread", 7)]
    else:
        assert found["thread_id"] == [(7, True)]


def test_order_times_become_times_of_the_wall_clock(
    furnished: Callable[[str], Furnished], new_place: NewPlace
) -> None:
    """Those of a file whose clock was set back have high bits (sqlite/order.py)."""
    place, copy, back = new_place("sqlite"), new_place("postgresql"), new_place("sqlite")
    copied(furnished("sqlite").place, place)
    before = place.tables()
    place.execute(
        "UPDATE message SET time = time | (3 << 53)",
        "UPDATE thread SET active_time = active_time | (3 << 53)",
    )
    copied(place, copy)
    copied(copy, back)
    found = back.tables()
    assert (found["message"], found["thread"]) == (before["message"], before["thread"])


def test_times_of_another_clock_are_moved_to_that_of_the_copy(
    furnished: Callable[[str], Furnished], new_place: NewPlace
) -> None:
    """A file's clock may be far from the wall clock, which was set since its machine started."""
    place, copy, back = new_place("sqlite"), new_place("postgresql"), new_place("sqlite")
    copied(furnished("sqlite").place, place)
    place.execute(f"UPDATE clock SET base = base - {DAY}")  # noqa: S608
    copied(place, copy)
    copied(copy, back)
    for name, columns in CLOCKS.items():
        query = f"SELECT {', '.join(columns)} FROM {name} ORDER BY 1, 2, 3"  # noqa: S608
        pairs = zip(*(each.execute(query)[0] for each in (place, back)), strict=True)
        moved = {new - old for olds, news in pairs for old, new in zip(olds, news, strict=True)}
        assert moved - {0}, name
        assert all(by == 0 or abs(by - DAY) < MINUTE for by in moved), name
        assert len(moved) <= 2, "equal times stay equal"


@pytest.mark.parametrize(
    "steps",
    [
        ("sqlite", "sqlite"),
        ("sqlite", "postgresql", "sqlite"),
        ("postgresql", "postgresql"),
        ("postgresql", "sqlite", "postgresql"),
    ],
    ids="-".join,
)
def test_the_rows_of_a_copy_and_of_a_copy_back_are_those_of_the_store(
    furnished: Callable[[str], Furnished],
    new_place: NewPlace,
    steps: tuple[str, ...],
) -> None:
    place = furnished(steps[0]).place
    expected = place.tables()
    for engine in steps[1:]:
        source, place = place, new_place(engine)
        copied(source, place)
    found = place.tables()
    if len(steps) > 2:  # the clock of its copy begins with the first server
        for tables in (expected, found):
            tables.pop("clock", None)
    assert found == expected
    assert all(expected[name] for name in expected.keys() - {"purge"}), "something of everything"
