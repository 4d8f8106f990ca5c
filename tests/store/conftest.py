"""Fixtures of the contract: stores of each engine."""

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager

import pytest

from bus_server.store.interface import Store
from tests.store.engines import ENGINES, Engine

Database = Callable[[], AbstractAsyncContextManager[Store]]


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    """Each engine."""
    return ENGINES[request.param]


@pytest.fixture(autouse=True)
def no_batch_failed(engine: Engine, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fails a test in which an engine could not commit a batch, and ran its commands one by one.

    That is for errors that nobody foresaw; here, it would hide that a batch lacks facts.
    """
    with caplog.at_level("DEBUG", engine.logger):
        yield
    assert not [each for each in caplog.get_records("call") if "one by one" in each.getMessage()]


@pytest.fixture
def database(engine: Engine, request: pytest.FixtureRequest) -> Database:
    """Opens stores on one new database."""
    return functools.partial(engine.open, request.getfixturevalue(engine.place))


@pytest.fixture
async def store(database: Database) -> AsyncIterator[Store]:
    """A new store."""
    async with database() as opened:
        yield opened


@pytest.fixture
async def other(database: Database, store: Store) -> AsyncIterator[Store]:
    """A second store on the database of `store`, as another process opens it."""
    async with database() as opened:
        yield opened
