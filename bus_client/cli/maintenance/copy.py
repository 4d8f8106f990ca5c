"""`threadbus copy`."""

from __future__ import annotations

from pathlib import Path

import click

from bus_client.cli.maintenance.place import counted
from bus_client.cli.text import safe
from threadbus.extras import install_command


def _place(value: object) -> str | Path:
    """Returns a URL of PostgreSQL, or a file. Raises BadParameter, without a password."""
    if str(value).startswith(("postgresql://", "postgres://")):
        return str(value)
    if "://" in str(value):
        raise click.BadParameter(
            "this is neither a file nor the URL of a PostgreSQL database, such as "
            "postgresql://USER@HOST/DATABASE."
        )
    return Path(str(value))


@click.command()
@click.option(
    "--from",
    "source",
    metavar="STORE",
    type=_place,
    required=True,
    envvar="THREADBUS_COPY_FROM",
    show_envvar=True,
    help="The store to copy: a database file, or postgresql://USER@HOST/DATABASE.",
)
@click.option(
    "--to",
    "target",
    metavar="STORE",
    type=_place,
    required=True,
    envvar="THREADBUS_COPY_TO",
    show_envvar=True,
    help="Where the copy goes: a file that does not exist, or a schema of PostgreSQL without "
    "tables of a store.",
)
def copy(source: str | Path, target: str | Path) -> None:
    """Copy a store to another file or database, from SQLite to PostgreSQL or back.

    Everything in it is copied: clients that connect to a server on the copy read on where they
    were, and their tokens work. Stop all servers on the store first; it is only read.

    If the command is interrupted, repeat it: it goes on where it was. At the end it compares the
    copy with the store, row by row; until then, no server starts on the copy.

    Other users can see arguments: give a password by the variables, or as psql takes it
    (PGPASSWORD, ~/.pgpass).

    \b
    Examples:
      threadbus copy --from team.db --to postgresql://bus@db.example/threadbus
      threadbus copy --from postgresql://bus@db.example/threadbus --to team.db
    """
    try:
        from bus_server.copy import copier
        from bus_server.copy.progress import ProgressLine, duration
        from bus_server.errors import StoreRefused
        from bus_server.store.opening import open_copy
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"copying needs {error.name}, which comes with the extra `server`: "
            f"run {install_command('server')}"
        ) from error
    line = ProgressLine()
    try:
        with open_copy(source, target) as (opened, unfinished):
            name = unfinished.name
            copied = copier.copy(opened, unfinished, line.show)
    except StoreRefused as error:
        line.end()
        raise click.ClickException(safe(f"{error}.")) from None
    except KeyboardInterrupt:
        line.end()
        click.echo("threadbus: stopped; the same command goes on from here", err=True)
        raise click.Abort from None
    line.end()
    serve = f"--db {name}" if isinstance(target, Path) else "--store and the URL of the copy"
    threads, messages = counted({"threads": copied.threads, "messages": copied.messages})
    click.echo(
        f"copied {threads} with {messages} "
        f"({copied.bytes / 1e6:,.1f} MB) in {duration(line.elapsed)}, and compared each row; now "
        f"run threadbus serve with {serve}"
    )
