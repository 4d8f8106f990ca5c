"""`threadbus copy` refuses what it cannot copy, and servers refuse what is not copied wholly."""

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from bus_server.errors import StoreRefused
from bus_server.store.copies import TABLES
from bus_server.store.opening import open_copy
from bus_server.store.sqlite.write_lock import WriteLock
from tests.copying.conftest import ENGINES, Furnished, NewPlace
from tests.copying.interrupting import Interrupted, opened
from tests.copying.interrupting import copy as copy_in_steps
from tests.copying.stores import copied, refused, run
from tests.refused_start import contents

pytestmark = pytest.mark.slow

#: Bytes of a page of a database file.
PAGE = 4096
PAIRS = [ENGINES, ENGINES[::-1]]


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_a_store_that_is_served_is_not_copied_and_one_that_is_copied_is_not_served(
    new_place: NewPlace, source: str, target: str
) -> None:
    place, copy = new_place(source), new_place(target)
    with place.serve() as server:
        assert "is in use: stop every server on it first" in refused(place, copy)
        assert not server.problems
    with open_copy(opened(place), opened(copy)):
        assert "is in use" in refused(place, new_place(target)), "another copy is under way"
        why = "it is being copied" if place.url else "another server on this file"
        assert why in place.refusal()
        assert "unfinished copy" in copy.refusal()
    with place.serve():
        pass  # when the copy has ended, it can be served again


@pytest.mark.parametrize("target", ENGINES)
def test_an_unfinished_copy_is_neither_served_nor_copied_and_can_be_finished(
    furnished: Callable[[str], Furnished], new_place: NewPlace, target: str
) -> None:
    place, copy, other = furnished("sqlite").place, new_place(target), new_place("sqlite")
    with open_copy(opened(place), opened(copy)):
        pass
    assert "unfinished copy" in copy.refusal()
    with pytest.raises(AssertionError, match=r"\nthreadbus: .* an unfinished copy"):
        copy.serve().__enter__()
    assert "unfinished copy" in refused(copy, new_place("sqlite"))
    with other.serve():
        pass
    assert "an unfinished copy of another store" in refused(other, copy)
    copied(place, copy)
    with copy.serve():
        pass


@pytest.mark.parametrize("target", ENGINES)
def test_a_store_is_not_copied_into_itself_or_into_another_one(
    furnished: Callable[[str], Furnished], new_place: NewPlace, target: str
) -> None:
    place, copy = furnished(target).place, new_place(target)
    assert "is the store itself" in refused(place, place)
    copied(place, copy)
    assert "a store already" in refused(place, copy)
    link = copy.db.with_name("link.db")
    if not place.url:
        link.symlink_to(place.db)
        assert "is the store itself" in refused(place, str(link))


def test_a_copy_that_ends_while_another_one_waits_for_it_is_not_begun_again(
    furnished: Callable[[str], Furnished], new_place: NewPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, copy = furnished("sqlite").place, new_place("sqlite")
    with pytest.raises(Interrupted):
        copy_in_steps(place, copy, steps=1)
    unfinished = copy.db.read_bytes()
    copy_in_steps(place, copy)
    finished = copy.db.read_bytes()
    copy.db.write_bytes(unfinished)
    lock = WriteLock.held

    def finish_first(self: WriteLock) -> contextlib.AbstractContextManager[None]:
        if self.path.name.startswith(copy.db.name):
            copy.db.write_bytes(finished)
        return lock(self)

    monkeypatch.setattr(WriteLock, "held", finish_first)
    with pytest.raises(StoreRefused, match="is a store already"):
        copy_in_steps(place, copy)
    assert copy.db.read_bytes() == finished


def test_other_files_are_refused_and_left_as_they_are(
    furnished: Callable[[str], Furnished], tmp_path: Path
) -> None:
    place = furnished("sqlite").place
    (tmp_path / "text").write_text("this is text\n" * 20, "utf-8")
    with contextlib.closing(sqlite3.connect(tmp_path / "other")) as db:
        db.execute("CREATE TABLE t (x)")
        db.execute("PRAGMA application_id = 7").fetchall()
        db.commit()
    (tmp_path / "empty").touch()
    before = contents(tmp_path)
    for name, why in (("text", "not a SQLite database"), ("other", "belongs to another program")):
        assert why in refused(place, str(tmp_path / name))
        assert why in refused(str(tmp_path / name), str(tmp_path / "new"))
    assert "there is no store" in refused(str(tmp_path / "empty"), str(tmp_path / "new"))
    assert "there is no store" in refused(str(tmp_path / "none"), str(tmp_path / "new"))
    assert "is not a folder" in refused(place, str(tmp_path / "none/new"))
    assert contents(tmp_path) == before


@pytest.mark.parametrize(("engine", "other"), PAIRS)
@pytest.mark.parametrize("newer", [False, True], ids=["older", "newer"])
def test_a_store_of_another_version_is_refused(
    new_place: NewPlace, engine: str, other: str, newer: bool
) -> None:
    place = new_place(engine)
    with place.serve():
        pass
    version = 99 if newer else 4
    place.execute(
        f"UPDATE meta SET version = {version}"  # noqa: S608
        if place.url
        else f"PRAGMA user_version = {version}"
    )
    why = "upgrade" if newer else "start a server of this version on it"
    assert why in refused(place, new_place(other))


@pytest.mark.parametrize("which", ["--from", "--to"])
def test_passwords_are_not_shown(new_place: NewPlace, tmp_path: Path, which: str) -> None:
    place = new_place("sqlite")
    with place.serve():
        pass
    url = "postgresql://bus:s3cret@127.0.0.1:1/bus"
    ends = (url, place) if which == "--from" else (place, url)
    error = refused(*ends)
    assert "postgresql://127.0.0.1:1/bus: Connection refused" in error
    assert "s3cret" not in error
    wrong = run("mysql://bus:s3cret@host/bus", str(tmp_path / "new"))
    assert wrong.code == 2
    assert "s3cret" not in wrong.err


@pytest.mark.parametrize("target", ENGINES)
def test_a_damaged_file_is_not_copied(
    furnished: Callable[[str], Furnished], new_place: NewPlace, target: str
) -> None:
    place, copy = new_place("sqlite"), new_place(target)
    copied(furnished("sqlite").place, place)
    # In a page that no server reads when it starts.
    page = place.db.read_bytes().rindex(b"and you?") // PAGE
    with place.db.open("r+b") as damaged:
        damaged.seek(page * PAGE)
        damaged.write(b"\xff" * PAGE)
    before = place.db.read_bytes()
    assert "is damaged" in refused(place, copy)
    assert place.db.read_bytes() == before
    assert "unfinished copy" in copy.refusal()


@pytest.mark.parametrize("target", ENGINES)
def test_a_copy_that_something_else_changes_is_not_finished(
    furnished: Callable[[str], Furnished], new_place: NewPlace, target: str
) -> None:
    place, copy = furnished("sqlite").place, new_place(target)
    with pytest.raises(Interrupted):
        copy_in_steps(place, copy, steps=len(TABLES))
    copy.execute("INSERT INTO participant VALUES (1, 'aaa', 0, 0, 0, 0)")
    error = refused(place, copy)
    assert "differs from what was copied, in table participant at thread_id 1, agent 'a" in error
    assert "unfinished copy" in copy.refusal()
