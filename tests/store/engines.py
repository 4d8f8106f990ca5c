"""The engines that the contract is tested on."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import NamedTuple

from bus_server.store.interface import Store
from tests.own_bus import opened


class Engine(NamedTuple):
    """How to open stores of an engine."""

    #: Opens a store, and closes it at the end. The stores that are opened on one folder have one
    #: database, like servers in several processes.
    open: Callable[[Path], AbstractAsyncContextManager[Store]]
    #: Logs "one by one" at level DEBUG when a batch failed and its commands are run alone.
    logger: str


#: A new engine is a row here.
ENGINES = {
    "sqlite": Engine(lambda folder: opened(folder / "bus.db"), "bus_server.store.sqlite.store"),
}
