"""The command `threadbus serve`, also run as `python -m bus_server`."""

import asyncio
import logging
import os
import sys
from collections.abc import Callable
from typing import Any

import click

from bus_server.flags import settings_flags
from bus_server.settings import Settings

#: The exit code if the database was removed, replaced or damaged.
LOST = 7


@click.command()
@settings_flags
def main(**values: Any) -> None:
    """Run a server until SIGTERM, SIGHUP or Ctrl-C.

    It then commits the posts it has accepted and ends open waits without an error.

    Each TIME is in seconds, or has a unit: 90, 10m, 36h.

    \b
    Example:
      threadbus serve --db team.db
    """
    settings = Settings(**{name: value for name, value in values.items() if value is not None})
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    sys.exit(run(settings))


def run(settings: Settings) -> int:
    """Run a server until it is stopped by a signal. Returns the exit code: 1 if it cannot start.

    Ends the process with code 7 if the database is removed, replaced or damaged.
    """
    _open_standard_streams()
    os.umask(0o077)  # the server's user alone can use the files that it creates
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # our own errors say it better
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
        # connections, which may write to a database that is not the store's.
        logging.shutdown()
        os._exit(LOST)
    return 0


def _open_standard_streams() -> None:
    """Open /dev/null in place of standard input, output and error if the shell closed them.

    Otherwise sockets and files would get these descriptors: printed text would go there, and uvloop
    aborts when it closes one of them.
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
        return None  # asyncio's own loop is slower, and otherwise the same
    return uvloop.new_event_loop


if __name__ == "__main__":
    main(prog_name="python -m bus_server")
