"""Options and arguments that several verbs have."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from bus_client.cli.text import safe

F = TypeVar("F", bound=Callable[..., Any])
CALL_TIMEOUT = 10.0  # seconds
_YEAR = 366 * 86_400


def _check_seq(_: click.Context, __: click.Parameter, seq: int | None) -> int | None:
    if seq is not None and not 0 <= seq < 2**53:
        raise click.BadParameter(f"{seq} is no seq: the first message is 1, before it is 0.")
    return seq


def seq_option(*names: str, help: str, default: int | None = None) -> Callable[[F], F]:
    """An option that takes a place in a thread."""
    return click.option(
        *names,
        metavar="SEQ",
        type=int,
        callback=_check_seq,
        default=default,
        show_default=False,
        help=help,
    )


def _check_address(_: click.Context, __: click.Parameter, address: str) -> str:
    if not re.fullmatch(r"unix:.+|[^/]+:\d{1,5}", address):
        raise click.BadParameter(f"{address} is neither HOST:PORT nor unix:PATH.")
    return address


def _check_seconds(_: click.Context, __: click.Parameter, seconds: float) -> float:
    if not 0 <= seconds <= _YEAR:  # nan is not, either
        raise click.BadParameter(f"{seconds} is not within 0 and a year.")
    return seconds


def seconds_option(*names: str, help: str, default: float) -> Callable[[F], F]:
    """An option that takes a time in seconds."""
    return click.option(
        *names, metavar="SECONDS", type=float, callback=_check_seconds, default=default, help=help
    )


def yes_option(question: str) -> Callable[[F], F]:
    """--yes for what cannot be undone; without it `question`, with {name}, is asked on a terminal.

    It is asked before anything is connected.
    """

    def check(context: click.Context, _: click.Parameter, yes: bool) -> bool:
        name = context.params.get("name")
        if not yes and name is not None:
            if not sys.stdin.isatty():
                raise click.UsageError("Say --yes to do it without being asked.", context)
            if not click.confirm(question.format(name=safe(name)), err=True):
                raise click.ClickException("Nothing was done.")
        return yes

    return click.option(
        "--yes", is_flag=True, callback=check, expose_value=False, help="Do not ask."
    )


#: How many messages; a protobuf int32 holds more, a terminal does not.
count_type = click.IntRange(1, 1_000_000)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON; errors too, on stderr."
)
thread_argument = click.argument("thread", envvar="THREADBUS_THREAD")
timeout_option = seconds_option("--timeout", default=CALL_TIMEOUT, help="How long to try.")
connection_options = [
    click.option(
        "--server",
        metavar="ADDRESS",
        envvar="THREADBUS_SERVER",
        show_envvar=True,
        default="127.0.0.1:7420",
        callback=_check_address,
        help="HOST:PORT or unix:PATH.",
    ),
    click.option(
        "--token-file",
        metavar="FILE",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="A token, instead of the one kept for you. THREADBUS_TOKEN can hold one, too.",
    ),
    json_option,
]
as_option = click.option(
    "--as",
    "agent",
    metavar="NAME",
    envvar="THREADBUS_AGENT",
    show_envvar=True,
    help="Who you are: registered at need, resumed otherwise. Nobody: anonymous.",
)


def _parse_labels(_: click.Context, __: click.Parameter, pairs: Sequence[str]) -> dict[str, str]:
    labels = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise click.BadParameter(f"{pair!r} is not KEY=VALUE.")
        labels[key] = value
    return labels


label_option = click.option(
    "--label",
    "labels",
    metavar="KEY=VALUE",
    multiple=True,
    callback=_parse_labels,
    help="A free label; may be repeated.",
)
