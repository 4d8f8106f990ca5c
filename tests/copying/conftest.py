"""Fixtures: a store of each engine with everything in it, and places for copies."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.copying.stores import RENEWED, Callers, Place, furnish, shown

ENGINES = ["sqlite", "postgresql"]

#: Makes an empty place for a store on an engine.
NewPlace = Callable[[str], Place]


class Furnished(NamedTuple):
    """A store with everything in it, whose server was stopped. Do not write to it."""

    place: Place
    callers: Callers
    #: What its server showed.
    shown: dict[str, Any]


def _furnished(place: Place) -> Furnished:
    with place.serve() as server:
        callers = asyncio.run(furnish(server))
    place.execute(f"UPDATE thread SET epoch = '{RENEWED}' WHERE name = 'renewed'")  # noqa: S608
    with place.serve() as server:
        before = asyncio.run(shown(server, callers))
    return Furnished(place, callers, before)


@pytest.fixture(scope="session")
def furnished_places() -> dict[str, Furnished]:
    """The stores that `furnished` has made, by engine."""
    return {}


@pytest.fixture
def furnished(
    request: pytest.FixtureRequest,
    furnished_places: dict[str, Furnished],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], Furnished]:
    """Returns the store of an engine with everything in it: `furnished("sqlite")`."""

    def on(engine: str) -> Furnished:
        if engine not in furnished_places:
            db = tmp_path_factory.mktemp("furnished") / "bus.db"
            url = ""
            if engine == "postgresql":
                postgres = request.getfixturevalue("postgres")
                postgres.execute("CREATE SCHEMA furnished")
                url = postgres.url("furnished")
            furnished_places[engine] = _furnished(Place(db, url))
        return furnished_places[engine]

    return on


@pytest.fixture
def new_place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NewPlace]:
    """Makes empty places: `new_place("postgresql")`."""
    with contextlib.ExitStack() as schemas:
        made = 0

        def make(engine: str) -> Place:
            nonlocal made
            made += 1
            db = tmp_path / f"place-{made}.db"
            if engine == "sqlite":
                return Place(db)
            schema = request.getfixturevalue("postgres").schema()
            return Place(db, schemas.enter_context(schema))

        yield make
