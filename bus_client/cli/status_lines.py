"""Formats the status of a server for people: figures with their units, on one screen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from bus_client.cli.people import age, presence_name
from bus_client.cli.text import byte_size, count, safe
from bus_client.cli.transcript import local_time, span

if TYPE_CHECKING:
    from google.protobuf.duration_pb2 import Duration

    from threadbus.v1.admin_service_pb2 import GetStatusResponse, Latency, ThreadActivity

_LABEL = 10  # characters of the labels on the left
_CELL = 17  # characters of a figure with its name, so that figures stand below each other
_PLAIN, _DIM, _HEADING, _WARNING, _ALARM = range(5)
_STYLES: dict[int, dict[str, Any]] = {
    _PLAIN: {},
    _DIM: {"dim": True},
    _HEADING: {"bold": True},
    _WARNING: {"fg": "yellow"},
    _ALARM: {"fg": "red", "bold": True},
}

#: What to show of a server whose store fails.
FAILING = "THE STORE FAILS: posts are refused until it works again. The server's log says why."


@dataclass(frozen=True, slots=True)
class Cell:
    """A text, safe for terminals, and one of the styles above."""

    text: str
    style: int = _PLAIN


#: What is shown on a line, or on several in a narrow terminal: a label, and what it is about.
Row = tuple[str, Sequence[Cell]]


def status_lines(
    status: GetStatusResponse, server: str, *, alarm: str = "", width: int = 0, colour: bool = False
) -> Iterator[str]:
    """Yields the lines of a status.

    Args:
        status: The status.
        server: The address that it was read from.
        alarm: A line to show before all figures, if not empty.
        width: Columns of the terminal; figures that do not fit go to the next line. 0 = any number.
        colour: Style the lines for a terminal.
    """
    alarms = [text for text in (alarm, FAILING if status.store_failing else "") if text]
    rows: list[Row] = [
        ("", _heading(status, server)),
        *(("", [Cell(text, _ALARM)]) for text in alarms),
        ("", []),
        *_figures(status),
    ]
    if status.busiest_threads:
        rows += [("", []), *_threads(status.busiest_threads)]
    for row in rows:
        yield from _laid_out(row, width=width, colour=colour)


def _heading(status: GetStatusResponse, server: str) -> list[Cell]:
    name = f"{safe(status.server)} at {server}" if status.server else server
    up = age(status.time.seconds - status.start_time.seconds)
    return [
        Cell(f"{name} ", _HEADING),
        Cell(f"· {local_time(status.time)} "),
        Cell(f"· threadbus {safe(status.version) or '?'} "),
        Cell(f"· up {up} "),
        Cell(f"· last {span(round(_seconds(status.window)))}"),
    ]


def _figures(status: GetStatusResponse) -> Iterator[Row]:
    yield (
        "messages",
        [
            Cell(f"posted {_rate(status.posted_per_second)}"),
            Cell(f"delivered {_rate(status.delivered_per_second)}"),
        ],
    )
    failed = status.failed_calls_per_second
    yield (
        "calls",
        [
            Cell(f"ended {_rate(status.calls_per_second)}"),
            Cell(f"failed {_rate(failed)}", _ALARM if failed > 0 else _PLAIN),
        ],
    )
    yield "wake-ups", _latency(status.wake)
    yield "commits", _latency(status.commit)
    yield "waits", [Cell(f"{status.open_waits:,} open")]
    yield "agents", list(_agents(status))
    overdue = status.overdue_requests
    yield (
        "requests",
        [
            Cell(f"{status.open_requests:,} open"),
            Cell(f"{overdue:,} overdue", _WARNING if overdue else _PLAIN),
        ],
    )
    yield (
        "queue",
        [
            Cell(count(status.queued_posts, "post")),
            Cell(byte_size(status.queued_bytes)),
            Cell(f"store lag {_time(status.store_lag)}"),
            Cell(f"hint lag {_time(status.hint_lag)}"),
        ],
    )
    yield "store", list(_store(status))
    yield (
        "process",
        [
            Cell(f"{byte_size(status.memory_bytes)} memory"),
            Cell(count(status.open_files, "open file")),
            Cell(count(status.other_servers, "other server")),
        ],
    )


def _agents(status: GetStatusResponse) -> Iterator[Cell]:
    for found in status.agents:
        name = presence_name(found.presence)
        yield Cell(f"{found.count:,} {name}", _WARNING if name == "lapsed" else _PLAIN)
    if not status.agents:
        yield Cell("none")


def _store(status: GetStatusResponse) -> Iterator[Cell]:
    yield Cell(safe(status.store_kind) or "?")
    yield Cell(byte_size(status.store_bytes))
    if status.free_bytes:
        yield Cell(f"reusable {byte_size(status.free_bytes)}")
    if status.log_bytes:
        yield Cell(f"log {byte_size(status.log_bytes)}")
    if status.HasField("disk_free_bytes"):
        yield Cell(f"disk free {byte_size(status.disk_free_bytes)}")
    yield Cell(count(status.thread_count, "thread"))


def _threads(threads: Iterable[ThreadActivity]) -> Iterator[Row]:
    yield "", [Cell(f"{'posted':>9} {'waits':>7} {'last':>10}  thread", _DIM)]
    for thread in threads:
        rate, last = _rate(thread.posted_per_second), f"#{thread.last_seq}"
        yield "", [Cell(f"{rate:>9} {thread.open_waits:>7,} {last:>10}  {safe(thread.thread)}")]


def _latency(latency: Latency) -> list[Cell]:
    if not latency.count:
        return [Cell("none")]
    times = {"p50": latency.p50, "p99": latency.p99, "max": latency.max}
    cells = [Cell(f"{name} {_time(value)}") for name, value in times.items()]
    return [*cells, Cell(f"{latency.count:,} in all")]


def _laid_out(row: Row, *, width: int, colour: bool) -> Iterator[str]:
    """Yields the lines of a row: as many cells on each as fit into `width` columns, cut to it."""
    label, cells = row
    indent = _LABEL if label else 0
    line, used = [Cell(label.ljust(indent), _DIM)], indent
    for cell in cells:
        if width and used > indent and used + len(cell.text.rstrip()) > width:
            yield _styled(line, colour=colour)
            line, used = [Cell(" " * indent)], indent
        text = f"{cell.text:{_CELL}} " if label else cell.text
        line.append(Cell(text[: max(width - used, 0)] if width else text, cell.style))
        used += len(text)
    yield _styled(line, colour=colour)


def _styled(line: Sequence[Cell], *, colour: bool) -> str:
    if not colour:
        return "".join(cell.text for cell in line).rstrip()
    return "".join(click.style(cell.text, **_STYLES[cell.style]) for cell in line if cell.text)


def _rate(value: float) -> str:
    return f"{value:,.0f}/s" if value >= 100 else f"{value:.1f}/s"


def _time(duration: Duration) -> str:
    """Returns a time in milliseconds, or in seconds if it is 10 s or longer."""
    seconds = _seconds(duration)
    if seconds >= 10:
        return f"{seconds:,.1f} s"
    digits = 2 if seconds < 0.01 else 1 if seconds < 0.1 else 0
    return f"{seconds * 1e3:,.{digits if seconds else 0}f} ms"


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9
