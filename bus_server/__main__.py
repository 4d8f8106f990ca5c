"""The command `threadbus serve`, also run as `python -m bus_server`."""

import asyncio
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from bus_server import logs
from bus_server.config_file import ConfigError
from bus_server.configuration import Configuration
from bus_server.flags import settings_flags
from bus_server.settings import CONFIG_VARIABLE, declared, misspelt
from threadbus.extras import install_command

logger = logging.getLogger(__name__)

#: The exit code if the store's files were removed, replaced or damaged while the server ran.
LOST = 7


@click.command()
@click.option(
    "--config",
    type=click.Path(path_type=Path, readable=False),
    envvar=CONFIG_VARIABLE,
    metavar="FILE",
    show_envvar=True,
    help="A file of settings in TOML, such as max-open-waits = 100. Flags and variables overrule "
    "it. SIGHUP then reloads it, instead of stopping the server.",
)
@click.option(
    "--print-config",
    is_flag=True,
    help="Print the settings, and where each comes from, as a file for --config; do not serve.",
)
@settings_flags
@click.pass_context
def main(context: click.Context, /, config: Path | None, print_config: bool, **values: Any) -> None:
    """Run a server until SIGTERM, SIGHUP or Ctrl-C.

    To stop, it commits the posts it has accepted and ends open waits without an error.

    A TIME is a number of seconds, or has a unit (s, m, h or d): 90, 10m, 36h. What is reloadable
    can change while the server runs: see --config.

    \b
    Example:
      threadbus serve --db team.db
    """
    origins = dict[str, str]()
    for setting in declared():
        source = context.get_parameter_source(setting.name)
        if source is ParameterSource.COMMANDLINE:
            origins[setting.name] = f"the flag {setting.flag}"
        elif source is ParameterSource.ENVIRONMENT:
            origins[setting.name] = f"the variable {setting.variable}"
    given = {name: values[name] for name in origins}
    try:
        configuration = Configuration.load(given, origins, config)
    except ConfigError as error:
        raise click.BadParameter(str(error), param_hint="'--config'") from error
    if print_config:
        click.echo(configuration.written())
        return
    settings = configuration.settings
    logs.set_up(settings.log_level, settings.log_format)
    for name, meant in misspelt(os.environ).items():
        logger.warning("%s is not a setting, and is ignored: is it %s?", name, meant)
    sys.exit(run(configuration))


def run(configuration: Configuration) -> int:
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
        return _failed(
            configuration,
            f"the server needs {error.name}, which comes with the extra `server`: "
            f"run {install_command('server')}",
        )
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(serve(configuration))
    except (ServeError, StoreRefused) as error:
        return _failed(configuration, str(error))
    except StoreLost:
        # The log says what was found. Exit immediately: an orderly exit would close SQLite's
        # connections, and closing them may write to a database that is not the store's.
        logging.shutdown()
        os._exit(LOST)
    return 0


def _failed(configuration: Configuration, why: str) -> int:
    """Log why the server did not start, or ended. Returns its exit code."""
    if configuration.settings.log_format == "json":
        logs.event(logger, logging.CRITICAL, "failed", "%s", why)
    else:
        click.echo(f"threadbus: {why}", file=sys.stderr)
    return 1


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
