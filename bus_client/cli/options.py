"""Options and arguments that several verbs share."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from bus_client.address import whole_address
from bus_client.cli.names import suggestion
from bus_client.cli.text import safe
from threadbus.limits import SEQ_LIMIT
from threadbus.names import AGENT, AGENT_RULE

F = TypeVar("F", bound=Callable[..., Any])
CALL_TIMEOUT = 10.0  # seconds; the default of --timeout
_YEAR = 366 * 86_400
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def valid_seq(seq: int) -> int:
    """Returns `seq`. Raises click.BadParameter unless it is from 0 to SEQ_LIMIT - 1."""
    if not 0 <= seq < SEQ_LIMIT:
        why = "messages are numbered from 1, and 0 means before the first"
        raise click.BadParameter(f"SEQ must be from 0 to {SEQ_LIMIT - 1}, not {seq}: {why}.")
    return seq


def check_seq(_: click.Context, __: click.Parameter, seq: int | None) -> int | None:
    """Returns `seq` if it is None or as in valid_seq(). Raises click.BadParameter."""
    return None if seq is None else valid_seq(seq)


def seq_option(*names: str, help: str, default: int | None = None) -> Callable[[F], F]:
    """Returns a decorator that adds an option whose value is a seq, from 0 to SEQ_LIMIT - 1."""
    return click.option(
        *names,
        metavar="SEQ",
        type=int,
        callback=check_seq,
        default=default,
        show_default=False,
        help=help,
    )


def epoch_option(function: F) -> F:
    """Adds the option --epoch, for changes to a thread."""
    return click.option(
        "--epoch",
        metavar="EPOCH",
        default="",
        show_default=False,
        help="Only if this is the thread's epoch, as `thread show --json` prints it.",
    )(function)


def _check_address(_: click.Context, __: click.Parameter, address: str) -> str:
    try:
        return whole_address(address)
    except ValueError as error:
        raise click.BadParameter(f"{error}.") from None


class Duration(click.ParamType):  # type: ignore[type-arg]  # not generic before click 8.4
    """The type of an option for a time, such as 90, 5s, 10m, 36h or 30d. Its value is in seconds.

    Args:
        minimum: The shortest time that is accepted, in seconds.
        maximum: The longest one, in seconds. By default a year.
    """

    name = "time"

    def __init__(self, minimum: float = 0.0, maximum: float = _YEAR) -> None:
        self._minimum = minimum
        self._maximum = maximum

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number, unit = str(value).strip(), 1
        if number[-1:] in _UNITS:
            number, unit = number[:-1], _UNITS[number[-1]]
        try:
            seconds = float(number) * unit
        except ValueError:
            self.fail(f"{value!r} is not a time, such as 90, 10m, 36h or 30d.", param, ctx)
        if not self._minimum <= seconds <= self._maximum:  # refuses nan, too
            maximum = "a year" if self._maximum == _YEAR else _in_words(self._maximum)
            self.fail(f"{value} is not between {self._minimum:g} s and {maximum}.", param, ctx)
        return seconds


def _in_words(seconds: float) -> str:
    return f"{seconds / 86_400:g}d" if seconds >= 86_400 else f"{seconds:,g} s"


def seconds_option(
    *names: str, help: str, default: float, maximum: float = _YEAR
) -> Callable[[F], F]:
    """Returns a decorator that adds an option for a time of at most `maximum`.

    The option's value, `default` and `maximum` are in seconds.
    """
    kind = Duration(maximum=maximum)
    return click.option(*names, metavar="TIME", type=kind, default=default, help=help)


def check_agent(_: click.Context, __: click.Parameter, name: str | None) -> str | None:
    """Returns `name` if it is None or a valid agent name, without asking the server.

    Raises:
        click.BadParameter: The name is not valid. The message suggests a similar one if it can.
    """
    if name is not None and not AGENT.fullmatch(name):
        raise click.BadParameter(f"{name!r} is not a valid name: {AGENT_RULE}{suggestion(name)}.")
    return name


def yes_option(question: str) -> Callable[[F], F]:
    """Returns a decorator that adds the option --yes, for operations that cannot be undone.

    Without --yes the user is asked `question` before the verb connects; {name} in it stands for
    the verb's argument `name`. If stdin is not a terminal, --yes is required.
    """

    def check(context: click.Context, _: click.Parameter, yes: bool) -> bool:
        name = context.params.get("name")
        if not yes and name is not None:
            if not sys.stdin.isatty():
                raise click.UsageError("Add --yes: there is no terminal to ask on.", context)
            if not click.confirm(question.format(name=safe(name)), err=True):
                raise click.ClickException("Nothing was done.")
        return yes

    return click.option(
        "--yes",
        is_flag=True,
        callback=check,
        expose_value=False,
        help="Do not ask for confirmation.",
    )


def thread_and_next(thread: str | None, other: str | None) -> tuple[str, str | None]:
    """Returns the thread, and the argument after it; None if it is missing.

    If THREADBUS_THREAD is set and only one of both was given, that is the latter.

    Raises:
        click.UsageError: No thread is named.
    """
    default = os.environ.get("THREADBUS_THREAD")
    if default and other is None:
        thread, other = default, thread
    if not thread:
        raise click.UsageError("Missing THREAD: name one, or set THREADBUS_THREAD.")
    return thread, other


def names_or_all(threads: Sequence[str], everything: bool) -> list[str]:
    """Returns the names of threads, each once, or of THREADBUS_THREAD; an empty list for all.

    Raises:
        click.UsageError: Both --all and threads were given, or neither.
    """
    if everything and threads:
        raise click.UsageError("Use --all or name threads, not both.")
    if not everything and not threads:
        threads = os.environ.get("THREADBUS_THREAD", "").split()
        if not threads:
            raise click.UsageError("Missing THREAD: name one or more, or use --all.")
    return list(dict.fromkeys(threads))


#: The type of an option for a number of messages.
count_type = click.IntRange(1, 1_000_000)
max_chars_option = click.option(
    "--max-chars",
    metavar="N",
    type=click.IntRange(0, 2**31),
    default=0,
    show_default=False,
    help="Cut off texts after N bytes of UTF-8, between two characters: after N letters of "
    "English, or N/3 Chinese characters. 0 = no limit.",
)
with_files_option = click.option(
    "--with-files",
    "folder",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Save attached files in DIR, which is created if needed; no file is replaced. Without it, "
    "only their names and sizes are read.",
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON, and errors as JSON on stderr."
)
thread_argument = click.argument("thread", envvar="THREADBUS_THREAD")
agent_argument = click.argument("name", envvar="THREADBUS_AGENT", callback=check_agent)
timeout_option = seconds_option(
    "--timeout", default=CALL_TIMEOUT, help="How long to try each call."
)


def _file_option(name: str, help: str) -> Callable[[F], F]:
    """Returns a decorator that adds an option for a file that exists, in PEM format."""
    return click.option(
        name,
        metavar="FILE",
        envvar=f"THREADBUS_{name.removeprefix('--').replace('-', '_').upper()}",
        show_envvar=True,
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help=help,
    )


connection_options = [
    click.option(
        "--server",
        metavar="ADDRESS",
        envvar="THREADBUS_SERVER",
        show_envvar=True,
        default="127.0.0.1:7420",
        callback=_check_address,
        help="The server: HOST, HOST:PORT or unix:PATH. The default port is 7420. TLS is used "
        "except on this machine; tls://HOST and plaintext://HOST say it explicitly.",
    ),
    _file_option("--ca-file", "CA certificates to trust, instead of the public ones, for TLS."),
    _file_option("--client-cert", "Your certificate, if the server requires one."),
    _file_option("--client-key", "The key of your certificate."),
    click.option(
        "--token-file",
        metavar="FILE",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="A file with your token, instead of THREADBUS_TOKEN or the one stored for you.",
    ),
    json_option,
]
as_option = click.option(
    "--as",
    "agent",
    metavar="NAME",
    envvar="THREADBUS_AGENT",
    show_envvar=True,
    callback=check_agent,
    help="Your name; registered if it is new. Without a name or a token you are anonymous.",
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
    help="A label of your choice; may be repeated.",
)
