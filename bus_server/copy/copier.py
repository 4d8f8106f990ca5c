"""Copies the rows of a store, step by step, and compares them at the end."""

import hashlib
import marshal
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice, zip_longest
from time import monotonic

from bus_server.errors import StoreRefused
from bus_server.store.copies import (
    MESSAGE,
    STATE,
    TABLES,
    THREAD,
    Key,
    Kind,
    Mark,
    Row,
    Source,
    Table,
    Target,
)

#: Maximum rows of a step, and bytes of bodies after which it ends. A step is one transaction.
ROWS = 10_000
BYTES = 4 * 1024 * 1024

#: Microseconds by which two clocks may differ and be taken for one: asking them takes time.
SAME_CLOCK = 1_000_000


@dataclass(slots=True)
class Progress:
    """How far a phase of a copy is."""

    #: "copying", then "comparing".
    phase: str
    #: Rows of all tables, those that are done, and those that an earlier run had done.
    total: int
    done: int = 0
    resumed: int = 0
    #: Messages of this run, and bytes of their bodies.
    messages: int = 0
    bytes: int = 0
    start: float = field(default_factory=monotonic)  # in seconds on the monotonic clock

    def add(self, table: Table, rows: int, size: int) -> None:
        """Count rows. `size`: of their bodies, in bytes."""
        self.done += rows
        if table is MESSAGE:
            self.messages += rows
            self.bytes += size

    @property
    def elapsed(self) -> float:
        """Seconds since the start of the phase."""
        return monotonic() - self.start

    @property
    def seconds_left(self) -> float | None:
        """Seconds that the rest takes at the rate so far; None: unknown."""
        new = self.done - self.resumed
        return self.elapsed / new * (self.total - self.done) if new else None


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy holds."""

    threads: int
    messages: int
    bytes: int  # of the messages
    #: Rows that an earlier run had copied.
    resumed: int


def copy(source: Source, target: Target, report: Callable[[Progress], None]) -> Copied:
    """Copy a store into an unfinished copy of it, which is then a store that can be served.

    What earlier runs have copied is kept if the source was not written to since. Raises
    StoreRefused if an end fails, or if they differ at the end; then the copy stays unfinished.

    `report`: called after each step, of which there are several in a second.
    """
    fingerprint, shift = _fingerprint(source), _shift(source, target)
    resumed = target.mark is not None and target.mark.fingerprint == fingerprint
    if resumed and target.mark is not None:
        shift = target.mark.shift
    else:
        target.begin(Mark(fingerprint, shift))

    def read(table: Table, after: Key | None = None) -> Generator[Row]:
        rows = source.rows(table, after, order_times=target.has_order_times)
        return _shifted(table, rows, shift)

    counts = {table: source.count(table) for table in TABLES}
    progress = Progress("copying", sum(counts.values()))
    if resumed:
        progress.done = progress.resumed = sum(map(target.count, TABLES))
    for table in TABLES:
        with closing(read(table, target.last_key(table))) as missing:
            for step, size in _steps(table, missing):
                target.insert(table, step)
                progress.add(table, len(step), size)
                report(progress)
    compared = Progress("comparing", progress.total)
    for table in TABLES:
        with closing(read(table)) as expected, closing(target.rows(table)) as found:
            for step, size in _steps(table, expected):
                _compare(table, step, list(islice(found, len(step))), target.name)
                compared.add(table, len(step), size)
                report(compared)
            _compare(table, [], list(islice(found, 1)), target.name)
    source.check_unchanged()
    target.finish(source.last_thread_id(), source.clock)
    return Copied(counts[THREAD], compared.messages, compared.bytes, progress.resumed)


def _fingerprint(source: Source) -> str:
    """Returns what differs if a store was written to since.

    The heads of threads tell of the logs: what was appended, and what was removed.
    """
    hashed = hashlib.sha256()
    for table in STATE:
        for row in source.rows(table):
            hashed.update(marshal.dumps(row, 2))
    return hashed.hexdigest()


def _shift(source: Source, target: Target) -> int:
    """Returns the microseconds to add to times on the source's clock."""
    if source.has_order_times and target.has_order_times:
        return 0  # the file's clock is copied
    shift = target.now() - source.now()
    return 0 if abs(shift) < SAME_CLOCK else shift


def _shifted(table: Table, rows: Iterable[Row], shift: int) -> Generator[Row]:
    """Yields rows with the times on the store's clock moved."""
    clocks = table.kinds(Kind.CLOCK)
    if not shift or not clocks:
        yield from rows
        return
    for row in rows:
        values = list(row)
        for at in clocks:
            if values[at] > 1:
                values[at] = max(values[at] + shift, 2)
        yield tuple(values)


def _steps(table: Table, rows: Iterable[Row]) -> Iterator[tuple[list[Row], int]]:
    """Yields the rows of each step, and the size of their bodies."""
    body = table.body
    step, size = list[Row](), 0
    for row in rows:
        step.append(row)
        if body is not None:
            size += len(row[body])
        if len(step) >= ROWS or size >= BYTES:
            yield step, size
            step, size = [], 0
    if step:
        yield step, size


def _compare(table: Table, expected: Sequence[Row], found: Sequence[Row], where: str) -> None:
    """Compare rows of a table, byte by byte. Raises StoreRefused if one differs."""
    if found == expected:
        return
    pairs = zip_longest(expected, found)
    differs = next(row or other for row, other in pairs if row != other)
    key = ", ".join(f"{column} {value!r}" for column, value in table.key_of(differs).items())
    raise StoreRefused(
        f"{where} differs from what was copied, in table {table.name} at {key}: something else has "
        "changed it, or its disk fails. Remove it, and start again"
    )
