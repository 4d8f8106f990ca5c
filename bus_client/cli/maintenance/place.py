"""Which store a verb works on, and how its long work is shown, stopped and reported."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from bus_client.cli.options import json_option
from bus_client.cli.output import Output
from bus_client.cli.session import run_verb, until_signal
from bus_client.cli.text import byte_size, safe
from threadbus.extras import install_command

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

_SECONDS_BETWEEN = 0.2  # of two updates of the progress on a terminal
_NICENESS = 10
_DB = Path("threadbus.db")


def _check_url(_: click.Context, __: click.Parameter, url: str | None) -> str | None:
    if url and not url.startswith(("postgresql://", "postgres://")):
        raise click.BadParameter(  # without the value, which may have a password
            "this is not the URL of a PostgreSQL database, such as postgresql://USER@HOST/DATABASE."
        )
    return url or None


def store_options(function: F, *, default: bool = True) -> F:
    """Adds --db, --store and --json, which become the arguments `db`, `store` and `as_json`.

    `default`: whether the help says that the file is threadbus.db if neither is given.
    """
    db = click.option(
        "--db",
        metavar="FILE",
        envvar="THREADBUS_DB",
        show_envvar=True,
        type=click.Path(path_type=Path, readable=False),
        show_default=str(_DB) if default else False,
        help="The store's database file.",
    )
    store = click.option(
        "--store",
        metavar="URL",
        envvar="THREADBUS_STORE",
        show_envvar=True,
        callback=_check_url,
        help="Its PostgreSQL database, as with `threadbus serve`. Other users can see flags: give "
        "a password by the variable, PGPASSWORD or ~/.pgpass.",
    )
    return db(store(json_option(function)))


def chosen(db: Path | None, store: str | None, *, default: bool = True) -> Path | str:
    """Returns the file or the URL of the store. An option is preferred to a variable.

    `default`: whether the file is threadbus.db if neither is given. Raises click.UsageError.
    """
    context = click.get_current_context()

    def given(name: str) -> bool:
        return context.get_parameter_source(name) is ParameterSource.COMMANDLINE

    if db is not None and store is not None:
        if given("db") == given("store"):
            raise click.UsageError("Give --db or --store, not both.")
        return db if given("db") else store
    if store is not None:
        return store
    if db is None and not default:
        raise click.UsageError("Say where with --db FILE, or with --store URL.")
    return db or _DB


def named(place: Path | str) -> str:
    """Returns the name of a store for people: a URL without user, password and options."""
    if isinstance(place, Path):
        return str(place)
    from psycopg import conninfo

    from bus_server.store.postgres import wording

    return wording.url(conninfo.conninfo_to_dict(place))


class Stopped(Exception):
    """The verb was interrupted."""


class Progress:
    """The progress of some work, on one line of a terminal. `stop` ends the work."""

    def __init__(self, label: str, *, shown: bool) -> None:
        self._label, self._shown = label, shown
        self._stopped = False
        self._next = time.monotonic() + _SECONDS_BETWEEN
        self._drawn = False

    def stop(self) -> None:
        """Let the next call raise Stopped. Thread-safe."""
        self._stopped = True

    def __call__(self, done: int, total: int) -> None:
        """Show how many bytes are done, of how many (0: unknown). Raises Stopped."""
        if self._stopped:
            raise Stopped
        now = time.monotonic()
        if not self._shown or now < self._next:
            return
        self._next, self._drawn = now + _SECONDS_BETWEEN, True
        of = f" of {byte_size(total)}, {done * 100 // total} %" if total > 1 else ""
        what = "checking" if total == 1 else f"{self._label}: {byte_size(done)}{of}"
        click.echo(f"\r\x1b[K{what}", nl=False, err=True)

    def clear(self) -> None:
        """Remove the line."""
        if self._drawn:
            click.echo("\r\x1b[K", nl=False, err=True)


@contextmanager
def progress(out: Output, label: str) -> Iterator[Progress]:
    """Yields the progress of some work, shown if stderr is a terminal and the output not JSON."""
    shown = Progress(label, shown=not out.json and sys.stderr.isatty())
    try:
        yield shown
    finally:
        shown.clear()


async def in_thread(shown: Progress, work: Callable[[], T]) -> T:
    """Run blocking work, which calls `shown`, on another thread. Returns its result.

    Servers have precedence on the CPU. If this is cancelled, stops the work, and waits until it has
    cleaned up.
    """

    def give_way() -> T:
        if sys.platform == "linux":  # where threads have priorities of their own
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        return work()

    running = asyncio.ensure_future(asyncio.to_thread(give_way))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        shown.stop()
        await asyncio.wait([running])
        if not running.cancelled():
            running.exception()  # retrieve it, or asyncio would log it
        raise


def run(out: Output, verb: Callable[[], Awaitable[int]]) -> int:
    """Run a verb. Returns its exit code. SIGINT and SIGTERM stop it, after it has cleaned up.

    Raises click.ClickException with what the store refused.
    """
    try:
        from bus_server.errors import StoreRefused
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"This needs {error.name}, which comes with the extra `server`: "
            f"run {install_command('server')}"
        ) from None

    async def refusing() -> int:
        try:
            return await verb()
        except StoreRefused as error:
            raise click.ClickException(safe(f"{error}.")) from None

    return run_verb(out, lambda: asyncio.run(until_signal(refusing())))


def counted(found: Mapping[str, int]) -> list[str]:
    """Returns counts for people, such as "1 thread", by the plural of what is counted."""
    return [f"{count:,} {name[:-1] if count == 1 else name}" for name, count in found.items()]
