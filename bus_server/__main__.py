"""The command `threadbus serve`, also run as `python -m bus_server`."""

import asyncio
import logging
import os
import sys
from collections.abc import Callable
from typing import Any

import click

from bus_server.flags import settings_flags
from bus_server.settings import Settings, misspelt

logger = logging.getLogger(__name__)

#: The exit code if the store's files were removed, replaced or damaged while the server ran.
LOST = 7


@click.command()
@settings_flags
def main(**values: Any) -> None:
    """Run a server until SIGTERM, SIGHUP or Ctrl-C.

    To stop, it commits the posts it has accepted and ends open waits without an error.

    A TIME is a number of seconds, or has a unit (s, m, h or d): 90, 10m, 36h.

    \b
    Example:
      threadbus serve --db team.db
    """
    settings = Settings(**{name: value for name, value in values.items() if value is not None})
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    for name, meant in misspelt(os.environ).items():
        logger.warning("%s is not a setting, and is ignored: is it %s?", name, meant)
    sys.exit(run(settings))


def run(settings: Settings) -> int:
    """Run a server until a signal, or the end of a background task, stops it.

    Returns the exit code: 0 after a signal, or 1 if the server could not start or a background task
    ended. Ends the process without returning if the store's files are removed, replaced or damaged
    (code LOST), or if draining takes longer than `drain_timeout` (code 1).
    """
    _open_standard_streams()
    os.umask(0o077)  # only the server's user may access the files that it creates
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # the server reports errors itself
    try:
        from bus_server.errors import StoreLost, StoreRefused
        from bus_server.server import ServeError, serve
    except ModuleNotFoundError as error:
        click.echo(
            f"threadbus: the server needs {error.name}, which comes with the extra `server`: "
            "in the source folder, run pip install '.[server]'; see docs/running.md there",
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
        # The log says what was found. Exit immediately: an orderly exit would close SQLite's
        # connections, and closing them may write to a database that is not the store's.
        logging.shutdown()
        os._exit(LOST)
    return 0


def _open_standard_streams() -> None:
    """Open /dev/null in place of standard input, output and error, where the shell closed them.

    Otherwise sockets or files would get these descriptors: printed text would go into them, and
    uvloop aborts when it closes a descriptor below 3.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free descriptor


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None  # use asyncio's own loop, which is only slower
    return uvloop.new_event_loop


if __name__ == "__main__":
    main(prog_name="python -m bus_server")
