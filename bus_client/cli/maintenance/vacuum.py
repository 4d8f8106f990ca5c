"""`threadbus vacuum`."""

from __future__ import annotations

from pathlib import Path

import click

from bus_client.cli.maintenance.backup import dumps
from bus_client.cli.maintenance.place import (
    chosen,
    in_thread,
    named,
    progress,
    run,
    store_options,
)
from bus_client.cli.output import Output
from bus_client.cli.text import byte_size, safe


@click.command()
@store_options
def vacuum(db: Path | None, store: str | None, as_json: bool) -> int:
    """Return the space of deleted threads to the file system.

    Without it, that space is used again for new messages. On a file, stop all servers first: it is
    written again, which takes as much free space as its contents. PostgreSQL's tables are vacuumed
    and analysed while servers go on; their files rarely shrink.

    \b
    Examples:
      threadbus vacuum --db team.db
      threadbus vacuum --store postgresql://bus@db.example/threadbus
    """
    out, place = Output(as_json), chosen(db, store)

    async def verb() -> int:
        with progress(out, "vacuuming") as shown:
            if isinstance(place, Path):
                from bus_server.store.sqlite import upkeep

                done = await in_thread(shown, lambda: upkeep.vacuum(place, shown))
                before, after = done.before, done.after
            else:
                before, after = await dumps().vacuum(place)
        document = {"bytes_before": before, "bytes_after": after}
        line = f"{named(place)}: {byte_size(before)} before, {byte_size(after)} after"
        out.show(document, [safe(line)])
        return 0

    return run(out, verb)
