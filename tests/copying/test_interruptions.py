"""`threadbus copy` that is killed, interrupted, or out of space: it goes on where it was."""

import asyncio
import random
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bus_server.store import Command
from tests import own_bus
from tests.copying.conftest import ENGINES, NewPlace
from tests.copying.interrupting import Interrupted
from tests.copying.interrupting import copy as copy_in_steps
from tests.copying.stores import Place, copied, refused, run
from tests.disks import small_disk
from tests.polling import has_open, until
from tests.shell import Shell
from tests.store.commits import commit, compact, create, post, register

pytestmark = pytest.mark.slow

#: Messages of a large store, in threads of a few, and characters of each.
MESSAGES, SIZE = 300, 50_000


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A file that takes many steps to copy. Do not write to it."""
    place = Place(tmp_path_factory.mktemp("large") / "bus.db")

    async def fill_it() -> None:
        async with own_bus.opened(place.db) as store:
            await commit(store, register("ann"), *(create(f"t{n}") for n in range(10)))
            for first in range(0, MESSAGES, 50):
                posts = [
                    post(f"t{n % 10}", content=f"{n} " * (SIZE // 4), request_id=str(n))
                    for n in range(first, first + 50)
                ]
                await commit(store, *posts)

    asyncio.run(fill_it())
    return place


@pytest.mark.parametrize("target", ENGINES)
def test_a_copy_goes_on_after_the_last_step(large: Place, new_place: NewPlace, target: str) -> None:
    copy, back = new_place(target), new_place("sqlite")
    for steps in (1, 4):
        with pytest.raises(Interrupted):
            copy_in_steps(large, copy, steps=steps)
    done = copy_in_steps(large, copy)
    before = (done.threads, done.messages, done.bytes)
    assert done.resumed > MESSAGES // 10
    copied(copy, back)
    expected, found = large.tables(), back.tables()
    assert expected.pop("clock")
    found.pop("clock")
    assert found == expected
    assert before == (10, MESSAGES, sum(len(row[3]) for row in expected["message"]))


@pytest.mark.parametrize("target", ENGINES)
@pytest.mark.parametrize(
    "change", [post("t1", content="new"), compact(0, 5, name="t1")], ids=["post", "removal"]
)
def test_a_copy_starts_over_if_the_store_was_written_to_since(
    large: Place, new_place: NewPlace, target: str, change: Command[Any]
) -> None:
    place, copy, back = new_place("sqlite"), new_place(target), new_place("sqlite")
    copied(large, place)
    with pytest.raises(Interrupted):
        copy_in_steps(place, copy, steps=6)

    async def write() -> None:
        async with own_bus.opened(place.db) as store:
            await commit(store, change)

    asyncio.run(write())
    assert copy_in_steps(place, copy).resumed == 0
    copied(copy, back)
    assert back.tables()["message"] == place.tables()["message"]


@pytest.mark.parametrize("target", ENGINES)
def test_a_copy_that_is_killed_at_any_moment_goes_on(
    large: Place, new_place: NewPlace, tmp_path: Path, target: str
) -> None:
    copy, back, shell = new_place(target), new_place("sqlite"), Shell("", tmp_path)
    code = 0
    for _ in range(4):
        with shell.start("copy", "--from", str(large), "--to", str(copy)) as process:
            try:
                # In most runs before it ends: any moment will do.
                code = process.wait(random.uniform(0.3, 2))  # noqa: S311
            except subprocess.TimeoutExpired:
                process.kill()
                code = process.wait()
            process.communicate()
        if code == 0:
            break
        assert code == -signal.SIGKILL
    if code:
        # The last one may have been killed after its last step.
        done = run(large, copy)
        assert done.code == 0 or "is a store already" in done.err or "holds a store" in done.err
    copied(copy, back)
    assert back.tables()["message"] == large.tables()["message"]


@pytest.mark.parametrize("target", ENGINES)
def test_an_interrupted_copy_says_how_to_go_on(
    large: Place, new_place: NewPlace, tmp_path: Path, target: str
) -> None:
    copy, shell = new_place(target), Shell("", tmp_path)
    with shell.start("copy", "--from", str(large), "--to", str(copy)) as process:
        asyncio.run(until(lambda: has_open(process.pid, large.db)))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert err == "threadbus: stopped; the same command goes on from here\n"
    copied(large, copy)


def test_a_full_disk_ends_a_copy_that_goes_on_when_there_is_room(
    large: Place, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", megabytes=80) as disk:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(72 << 20))
        copy = Place(disk / "copy.db")
        error = refused(large, copy)
        assert f"the disk of {copy} is full: make room, and start again to go on" in error
        assert "unfinished copy" in copy.refusal()
        ballast.unlink()
        assert copy_in_steps(large, copy).resumed > 0
        assert copy.tables() == large.tables()


def test_progress_is_shown_on_a_terminal(large: Place, tmp_path: Path) -> None:
    copy, shell = Place(tmp_path / "copy.db"), Shell("", tmp_path)
    code, shown = shell.on_terminal("copy", "--from", str(large), "--to", str(copy))
    assert code == 0
    assert f"copied 10 threads with {MESSAGES} messages (13." in shown
    assert re.search(r"\r(copying|comparing): \d+%, \d+ messages, \d+ MB", shown)
