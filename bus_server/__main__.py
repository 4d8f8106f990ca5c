"""`threadbus serve`, also `python -m bus_server`: flags, then serve."""

import asyncio
import logging
import math
import os
import re
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from bus_server.settings import Settings
from threadbus.limits import MAX_CALL_BYTES, MAX_MESSAGE_BYTES

_DEFAULTS = Settings()

#: Exit code of a server whose database was removed, replaced or damaged.
LOST = 7


_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


class _Seconds(click.FloatRange):
    """A finite number of seconds, or a time with its unit, such as 10m."""

    name = "time"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if isinstance(value, str) and value[-1:] in _UNITS:
            try:
                value = float(value[:-1]) * _UNITS[value[-1]]
            except ValueError:
                self.fail(f"{value!r} is not a time, such as 90, 10m or 36h.", param, ctx)
        seconds = super().convert(value, param, ctx)
        if not math.isfinite(seconds):
            self.fail(f"{value} is no number of seconds.", param, ctx)
        return seconds


def _socket_mode(_: click.Context, __: click.Parameter, value: str) -> int:
    """Returns a file mode, given in octal digits, that lets its owner connect."""
    if not re.fullmatch("(0o)?[0-7]{3,4}", value) or int(value, 8) & ~0o177 != 0o600:
        raise click.BadParameter(
            f"{value} is no file mode that lets the owner connect: say three octal digits, such as "
            "600 (the owner alone), 660 (and the group) or 666 (anybody on this machine)."
        )
    return int(value, 8)


#: Longer than anybody waits for anything.
_DAY = 86_400.0
_POSITIVE = _Seconds(min=0, min_open=True, max=_DAY)
_SECONDS = _Seconds(min=0, max=_DAY)
_COUNT = click.IntRange(1, 2**31 - 1)
_BYTES = click.IntRange(1, MAX_MESSAGE_BYTES)
#: A few of the largest requests and answers must fit.
_BUDGET = click.IntRange(4 * MAX_CALL_BYTES, 2**40)


def _flag(name: str, help_text: str, **options: Any) -> Callable[[Any], Any]:
    options.setdefault("default", getattr(_DEFAULTS, name))
    options.setdefault("envvar", f"THREADBUS_{name.upper()}")
    return click.option(
        f"--{name.replace('_', '-')}",
        show_default=True,
        show_envvar=True,
        help=help_text,
        **options,
    )


@click.command()
@_flag("listen", "HOST:PORT or unix:PATH to listen on; port 0 takes any free one.")
@_flag(
    "socket_mode",
    "Who may connect to a Unix socket: 0600 its owner, 0660 its group, too, 0666 anybody on this "
    "machine.",
    default="0600",
    metavar="MODE",
    callback=_socket_mode,
)
@_flag(
    "db",
    "The database file; made when it is not there. Links are followed: the operator's token lies "
    "beside the file itself.",
    type=click.Path(path_type=Path, readable=False),
)
@_flag(
    "durability",
    "full: an acknowledged post is on disk. fast: it may be lost with the machine.",
    type=click.Choice(["full", "fast"]),
)
@_flag(
    "auth",
    "open: calls without a token act as `anonymous`, and anyone may register. required: neither. "
    "Without this: open on loopback and Unix sockets, else required.",
    default=None,
    type=click.Choice(["open", "required"]),
)
@_flag("insecure", "Listen beyond loopback although there is no TLS.", is_flag=True)
@_flag(
    "fallback_interval",
    "Seconds between looks for what others wrote to the file; 0: never.",
    type=_SECONDS,
)
@_flag(
    "busy_timeout",
    "Seconds to wait for a program that locks the file.",
    type=_SECONDS,
)
@_flag("heartbeat_interval", "Seconds between the heartbeats that agents send.", type=_POSITIVE)
@_flag(
    "agent_timeout",
    "Seconds without a sign of life after which an agent is lapsed; at least one and a half "
    "heartbeat intervals.",
    type=_POSITIVE,
)
@_flag(
    "working_timeout",
    "Seconds that a delivery counts as work without any word from the agent.",
    type=_POSITIVE,
)
@_flag(
    "checkpoint_interval",
    "Seconds between writes of what is known of agents and what they have read.",
    type=_POSITIVE,
)
@_flag(
    "drain_timeout",
    "Seconds that a stopping server waits for posts it has taken.",
    type=_POSITIVE,
)
@_flag("max_content_bytes", "Bytes of a message's content.", type=_BYTES)
@_flag("max_queued_posts", "Posts that may wait for the disk.", type=_COUNT)
@_flag("max_queued_bytes", "Bytes of posts that may wait for the disk.", type=_COUNT)
@_flag("max_open_waits", "Open waits of one agent.", type=_COUNT)
@_flag("max_anonymous_waits", "Open waits of all callers without a name together.", type=_COUNT)
@_flag(
    "max_streams",
    "Calls open at a time on one connection; clients queue further ones.",
    type=_COUNT,
)
@_flag(
    "max_request_bytes",
    "Bytes of requests, over all callers, that are arriving or being handled; further calls wait.",
    type=_BUDGET,
)
@_flag(
    "max_frame_bytes",
    "Bytes of answers and frames, over all callers, that are not read yet; further large ones "
    "wait.",
    type=_BUDGET,
)
@_flag(
    "request_timeout",
    "Seconds for a request to arrive, and to wait for room for its bytes.",
    type=_POSITIVE,
)
@_flag("keepalive_time", "Ping a connection after so many silent seconds.", type=_POSITIVE)
@_flag(
    "keepalive_timeout",
    "Take a connection for dead when a ping has no answer for so long.",
    type=_POSITIVE,
)
@_flag("json", "Announce the start as one JSON object.", is_flag=True, envvar=None)
@click.option(
    "--log-level",
    envvar="THREADBUS_LOG_LEVEL",
    default="info",
    show_default=True,
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="What to log, on stderr. debug shows every call, and every SQL statement with what is in "
    "the messages.",
)
def main(log_level: str, **flags: Any) -> None:
    """Run a server until SIGTERM, SIGHUP or Ctrl-C: posts under way finish and waits end well.

    \b
    Example:
      threadbus serve --db team.db
    """
    logging.basicConfig(
        level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    flags["auth"] = flags["auth"] or ""
    sys.exit(run(Settings(**{field.name: flags[field.name] for field in fields(Settings)})))


def run(settings: Settings) -> int:
    """Serve. Returns the exit code: 1 if it could not start.

    Ends the process with code 7 if the database is removed, replaced or damaged while it serves.
    """
    _open_standard_streams()
    os.umask(0o077)  # what the server makes is its user's alone, and usable by it
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what it logs, our errors say better
    try:
        from bus_server.errors import StoreLost, StoreRefused
        from bus_server.server import ServeError, serve
    except ModuleNotFoundError as error:
        click.echo(
            f"the server needs {error.name}, which comes with the extra `server`: "
            "pip install 'threadbus[server]'",
            file=sys.stderr,
        )
        return 1
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(serve(settings))
    except (ServeError, StoreRefused) as error:
        click.echo(f"threadbus: {error}", file=sys.stderr)
        return 1
    except StoreLost:
        # The log tells what was found. At once: an orderly exit would close SQLite's connections,
        # which may write to a database that is not the store's.
        logging.shutdown()
        os._exit(LOST)
    return 0


def _open_standard_streams() -> None:
    """Put /dev/null where the shell closed standard input, output or error.

    Else sockets and files would get these numbers: what is printed would go there, and uvloop
    aborts when it closes one of them.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None  # slower, and otherwise the same
    return uvloop.new_event_loop


if __name__ == "__main__":
    main(prog_name="python -m bus_server")
