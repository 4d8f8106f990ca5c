"""What `threadbus doctor --fix` changes: modes of files, leftovers, indexes. Never messages."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from bus_client import credentials
from bus_client.cli.doctor.file_checks import integrity_faults
from bus_client.cli.doctor.machine_checks import readable_by_others
from bus_client.errors import CredentialsError


def fix_machine() -> Iterator[str]:
    """Yields what was changed about the user's own files, one sentence each. Raises OSError."""
    try:
        path = credentials.default_path()
    except CredentialsError:
        return
    if path.exists() and readable_by_others(path):
        path.chmod(0o600)
        yield f"only its owner can read {path} now"


async def fix_store(path: Path, *, deep: bool) -> list[str]:
    """Returns what was changed about the store at `path`, and what could not be.

    `deep`: whether to look for damaged indexes, which reads the whole file. Does nothing to a file
    of another program.
    """
    from bus_server.errors import StoreRefused
    from bus_server.store.sqlite import file, upkeep

    done: list[str] = []
    try:
        path = file.locate(path)
        if not path.parent.is_dir() or (path.exists() and not file.schema_version(path)):
            return done
        for changed in upkeep.close_to_others(path):
            done.append(f"only its owner can open {changed} now")
            if changed == file.token_file(path):
                done.append(f"if others may have read {changed}, delete it for a new token")
        done += [f"removed {removed}" for removed in upkeep.remove(path)]
        if path.exists() and path.stat().st_size and await _indexes_are_damaged(path, deep=deep):
            upkeep.rebuild_indexes(path)
            done.append(f"rebuilt the indexes of {path}")
    except (StoreRefused, OSError, sqlite3.Error) as error:
        done.append(f"not fixed: {error}")
    return done


async def _indexes_are_damaged(path: Path, *, deep: bool) -> bool:
    """Returns whether indexes are missing; with `deep`, whether they alone are damaged."""
    from bus_server.store.sqlite import upkeep

    if upkeep.missing_indexes(path):
        return True
    faults = await integrity_faults(path) if deep else []
    return bool(faults) and all(map(upkeep.is_of_an_index, faults))
