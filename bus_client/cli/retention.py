"""The options for a thread's retention, and how it is shown."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

import bus_client
from bus_client.cli.options import Duration
from bus_client.cli.text import byte_size, count
from bus_client.cli.transcript import span

if TYPE_CHECKING:
    from bus_client import Retention, Thread
    from bus_client.retention import NewRetention
    from threadbus.v1 import thread_pb2

_LONGEST = 10_000 * 86_400.0  # seconds; the SDK takes more than 31 years for no limit
_MOST = 2**62
_UNITS = {"": 1} | {
    f"{letter}{suffix}": base**power
    for suffix, base in (("b", 1_000), ("ib", 1_024))
    for power, letter in enumerate(["", "k", "m", "g", "t"])
    if letter or suffix == "b"
}


class Size(click.ParamType):  # type: ignore[type-arg]  # not generic before click 8.4
    """The type of an option for a size, such as 500000, 10MB or 1.5GiB. Its value is in bytes."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([a-z]*)", str(value).strip().lower())
        if found is None or found[2] not in _UNITS:
            self.fail(f"{value!r} is not a size, such as 500000, 10MB or 1GiB.", param, ctx)
        size = float(found[1]) * _UNITS[found[2]]
        if 0 < size < 1 or size > _MOST:
            self.fail(f"{value} is not 0, and not between 1 byte and 2^62 bytes.", param, ctx)
        return int(found[1]) if not found[2] and "." not in found[1] else round(size)


_OPTIONS = [
    click.option(
        "--retain-age",
        "age",
        metavar="TIME",
        type=Duration(maximum=_LONGEST),
        help="Remove messages that are older, such as 36h or 30d. 0 = no limit.",
    ),
    click.option(
        "--retain-messages",
        "most",
        metavar="N",
        type=click.IntRange(min=0),
        help="Keep the newest N messages, edits and other entries. 0 = no limit.",
    ),
    click.option(
        "--retain-bytes",
        "size",
        metavar="SIZE",
        type=Size(),
        help="Keep the newest SIZE bytes of them, such as 10MB, but at least one. 0 = no limit.",
    ),
    click.option(
        "--retain-default",
        "default",
        is_flag=True,
        help="Keep them as long as the server keeps those of all threads.",
    ),
]


def retention_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options --retain-…, for the argument `retention`: None if none of them is given.

    A limit that is not given is none.
    """

    @functools.wraps(function)
    def with_retention(
        *, age: float | None, most: int | None, size: int | None, default: bool, **others: Any
    ) -> Any:
        return function(retention=_retention(age, most, size, default=default), **others)

    for option in reversed(_OPTIONS):
        with_retention = option(with_retention)
    return with_retention


def _retention(
    age: float | None, most: int | None, size: int | None, *, default: bool
) -> NewRetention:
    if (age, most, size) == (None, None, None):
        return "default" if default else None
    if default:
        raise click.UsageError("Use --retain-default or limits, not both.")
    limits: Retention = bus_client.Retention(
        max_age=age or 0.0, max_messages=most or 0, max_bytes=size or 0
    )
    return limits


def retention_lines(thread: Thread, default: thread_pb2.Retention | None = None) -> Iterator[str]:
    """Yields how long a thread keeps its messages, and its oldest one if others were removed.

    Nothing is yielded if it keeps everything by default, and has it. `default`: the server's
    retention; None if it is not known.
    """
    own = thread.HasField("retention")
    limits = thread.retention if own else default
    if words := [] if limits is None else list(_limits(limits)):
        yield f"keeps at most {', '.join(words)}{'' if own else ', as the server says'}"
    elif own:
        yield "keeps everything"
    if thread.first_seq > thread.head_seq > 0:
        yield f"no message is kept any more; the next one is #{thread.first_seq}"
    elif thread.first_seq > 1:
        yield f"the oldest message that is kept is #{thread.first_seq}"


def _limits(limits: thread_pb2.Retention) -> Iterator[str]:
    age = limits.max_age.seconds + limits.max_age.nanos / 1e9
    if age > 0:
        yield span(age)
    if limits.max_messages > 0:
        yield count(limits.max_messages, "message")
    if limits.max_bytes > 0:
        yield byte_size(limits.max_bytes)
