"""`threadbus backup`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

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
from bus_client.cli.text import byte_size, safe
from threadbus.extras import install_command


@click.command()
@click.argument("target", metavar="FILE", type=click.Path(path_type=Path, readable=False))
@click.option("--force", is_flag=True, help="Replace FILE if it exists, once the new one is whole.")
@store_options
def backup(target: Path, force: bool, db: Path | None, store: str | None, as_json: bool) -> int:
    """Write all that a store holds to one FILE, while servers go on.

    FILE has every post that was acknowledged before the backup began, of each thread up to one
    message and none after it. It is checked before it gets its name; if anything fails, there is
    no FILE. It holds all messages, and hashes of tokens, but not the operator's token: only you
    can read it. `threadbus restore` makes a store of it.

    Run it as the user of the server. A store in PostgreSQL is dumped by pg_dump, which must be
    installed.

    \b
    Examples:
      threadbus backup team-1.backup
      threadbus backup /backups/$(date +%F).backup --db /var/lib/threadbus/team.db
      threadbus backup team.backup --store postgresql://bus@db.example/threadbus --force
    """
    out, place = Output(as_json), chosen(db, store)

    async def verb() -> int:
        with progress(out, "copied") as shown:
            found = await _back_up(place, target, force, shown)
        _show(out, place, target, found)
        return 0

    return run(out, verb)


def _show(out: Output, place: Path | str, target: Path, found: dict[str, int]) -> None:
    document = {"file": str(target), "bytes": target.stat().st_size, **found}
    parts = [byte_size(target.stat().st_size), *counted(found)]
    out.show(document, [safe(f"{named(place)} is in {target}: {', '.join(parts)}")])


async def _back_up(place: Path | str, target: Path, force: bool, shown: Progress) -> dict[str, int]:
    if isinstance(place, Path):
        from bus_server.store.sqlite.backup import back_up

        return asdict(
            await in_thread(shown, lambda: back_up(place, target, force=force, progress=shown))
        )
    from bus_server.store.sqlite.backup import spare

    dump, target = dumps(), spare(target, force=force)
    await dump.back_up(place, target, force=force, progress=shown)
    return {}


def dumps() -> Any:
    """Returns the module that backs PostgreSQL up. Raises click.ClickException without psycopg."""
    try:
        from bus_server.store.postgres import dump
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"--store needs {error.name}, which comes with the extra `postgres`: "
            f"run {install_command('server,postgres')}"
        ) from None
    return dump
