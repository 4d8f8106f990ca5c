"""`threadbus restore`."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import click

from bus_client.cli.maintenance.backup import dumps
from bus_client.cli.maintenance.place import (
    Progress,
    chosen,
    counted,
    in_thread,
    named,
    progress,
    run,
    store_options,
)
from bus_client.cli.output import Output
from bus_client.cli.text import safe

_SQLITE, _POSTGRESQL = b"SQLite format 3\0", b"PGDMP"  # the beginnings of backups


@click.command()
@click.argument("source", metavar="FILE", type=click.Path(path_type=Path, readable=False))
@click.option(
    "--force", is_flag=True, help="Replace a store that is there. No server may be running on it."
)
@click.option(
    "--keep-history",
    is_flag=True,
    help="Keep the threads' epochs. Only if nothing was posted since the backup was made: clients "
    "would take new messages for those that they have read.",
)
@partial(store_options, default=False)
def restore(
    source: Path,
    force: bool,
    keep_history: bool,
    db: Path | None,
    store: str | None,
    as_json: bool,
) -> int:
    """Make a store of a backup, at --db or --store; then start a server on it.

    Messages, agents, their tokens and read positions are those of the backup. Threads get new
    epochs: clients that have read less than the backup has go on, and those that have read more
    get a resync to its end. The operator's token is not in a backup: the next start
    takes that of its file, or creates one.

    A backup goes back to where it came from: of a file to --db, of PostgreSQL to --store. One of an
    older version is upgraded at the next start.

    \b
    Examples:
      threadbus restore team.backup --db team.db
      threadbus restore team.backup --db team.db --force
      threadbus restore pg.backup --store postgresql://bus@db.example/threadbus
    """
    out, place = Output(as_json), chosen(db, store, default=False)
    _check(source, place)

    async def verb() -> int:
        with progress(out, "restored") as shown:
            found = await _restore(source, place, force, keep_history, shown)
        document = {"db": str(place)} if isinstance(place, Path) else {}
        line = f"restored to {named(place)}" + (f": {', '.join(counted(found))}" if found else "")
        out.show({"restored": True, **document, **found}, [safe(line)])
        return 0

    return run(out, verb)


def _check(source: Path, place: Path | str) -> None:
    """Raises click.ClickException unless a file begins like a backup of the store's engine."""
    try:
        with source.open("rb") as opened:
            begins = opened.read(16)
    except OSError as error:
        raise click.ClickException(f"Cannot read {source}: {error.strerror}.") from None
    if begins.startswith(_POSTGRESQL):
        if isinstance(place, Path):
            raise click.ClickException(
                f"{source} is a backup of PostgreSQL: restore it to --store."
            )
    elif begins != _SQLITE:
        raise click.ClickException(f"{source} is not a backup of threadbus.")
    elif not isinstance(place, Path):
        raise click.ClickException(f"{source} is of a database file: restore it to --db.")


async def _restore(
    source: Path, place: Path | str, force: bool, keep_history: bool, shown: Progress
) -> dict[str, int]:
    options: dict[str, Any] = {"force": force, "keep_history": keep_history, "progress": shown}
    if isinstance(place, Path):
        from bus_server.store.sqlite.restore import restore as to_file

        return asdict(await in_thread(shown, lambda: to_file(source, place, **options)))
    await dumps().restore(source, place, **options)
    return {}
