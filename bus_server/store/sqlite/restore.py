"""Makes a backup a store again, and gives its threads new epochs."""

import contextlib
import hashlib
import os
import secrets
import shlex
from pathlib import Path

from bus_server import filesystem
from bus_server.errors import StoreBusy, StoreRefused
from bus_server.partial import Partial, full_disk, need_space, new_file, partial
from bus_server.store.epochs import ID_SIZE
from bus_server.store.sqlite import backup, file, rescue
from bus_server.store.sqlite.backup import Contents, Progress
from bus_server.store.sqlite.write_lock import WriteLock

#: Seconds to wait for a server that holds the write lock of the file to be replaced.
LOCK_TIMEOUT = 5.0
#: The version from which on a store lists its servers and their waits, and that from which on its
#: threads lose their oldest entries.
_SERVERS_SINCE, _FIRST_SEQ_SINCE = 7, 12

# As epochs.py says: what is in the backup is the beginning of what was there.
_RENEW = (
    "UPDATE thread SET epoch = new_id() || '.' || printf('%x', coalesce(("  # noqa: S608
    " SELECT max(m.id) & 0xffffffff FROM message AS m"
    " WHERE m.id BETWEEN thread.id << 32 AND thread.id << 32 | 0xffffffff), {empty}))"
    f" || '.' || substr(epoch, 1, {ID_SIZE})"
)


def restore(
    source: Path, target: Path, *, force: bool, keep_history: bool, progress: Progress
) -> Contents:
    """Make the backup in the file `source` a store at `target`. Returns what it holds.

    It is checked, and is on the disk when this returns. A crash leaves what was at `target`, or the
    whole new store; or a file that no server starts with, until this is repeated.

    Args:
        force: whether to replace a store at `target` that no server has open. Its log is set aside.
        keep_history: whether threads keep their epochs: nothing was posted since the backup.

    Raises:
        StoreRefused: the file is no backup or is damaged, there is a store at `target` that must
            not be replaced, or the disk is full.
        OSError: a file cannot be read or written.
    """
    version = _version(source)
    target = file.locate(target)
    if target.exists() and target.samefile(source):
        raise StoreRefused(f"{target} is the backup itself: name another file")
    _check_target(target, force=force)
    size, digest = backup.last_line(source)
    need_space(target.parent, size, "the store")
    with full_disk(target), partial(target) as draft:
        found = _copy(source, draft.path, size, progress)
        if digest and found != digest:
            raise StoreRefused(
                f"{source} is damaged, or was changed since it was written: its checksum differs."
                " Restore another backup"
            )
        backup.seal(draft.path)
        with backup.translated(source):
            contents = backup.verify(draft.path, progress, source, "restore another backup")
            _forget_the_past(draft.path, version, keep_history=keep_history)
        _give_owner(draft.descriptor, target)
        with filesystem.lock_folder(target.parent):  # no server starts meanwhile
            progress(1, 1)
            _check_target(target, force=force)
            _place(draft, target, source)
    return contents


def _version(source: Path) -> int:
    """Returns the schema version of a backup. Raises StoreRefused if the file is none."""
    version = file.schema_version(source)
    if not version:
        raise StoreRefused(f"{source} is not a backup of threadbus")
    if version > file.SCHEMA_VERSION:
        raise StoreRefused(
            f"{source} has schema version {version}, and this program knows up to"
            f" {file.SCHEMA_VERSION}: upgrade threadbus"
        )
    log = filesystem.beside(source, "-wal")
    if log.exists() and log.stat().st_size:
        raise StoreRefused(
            f"{source} is a store with a log, {log}, and not a backup: make one of it with"
            f" threadbus backup FILE --db {shlex.quote(str(source))}"
        )
    return version


def _check_target(target: Path, *, force: bool) -> None:
    """Raises StoreRefused if no store may be put there."""
    new_file(target, force=force, what="the store")
    log = filesystem.beside(target, "-wal")
    if target.exists():
        if target.stat().st_size and not file.schema_version(target):
            raise StoreRefused(f"{target} is not a store of threadbus: remove it, or name another")
        if rescue.is_open(target):
            raise StoreRefused(
                f"{target} is being served, or open in another program: stop every server on it"
            )
    elif log.exists() and not force:
        raise StoreRefused(
            f"{log} is the log of a database that is gone, and may hold its newest messages: move"
            " it elsewhere, or add --force to set it aside"
        )


def _copy(source: Path, target: Path, size: int, progress: Progress) -> str:
    """Copy the first `size` bytes of a file. Returns their hash. Raises OSError."""
    digest, done = hashlib.sha256(), 0
    with source.open("rb") as given, target.open("wb") as copy:
        for block in backup.blocks(given, size):
            copy.write(block)
            digest.update(block)
            done += len(block)
            progress(done, size)
    return digest.hexdigest()


def _forget_the_past(path: Path, version: int, *, keep_history: bool) -> None:
    """Remove the servers of the past; unless `keep_history`, give the store and threads new epochs.

    Raises sqlite3.Error.
    """
    with contextlib.closing(backup.unshared(path)) as db:
        db.execute("BEGIN")
        if version >= _SERVERS_SINCE:
            db.execute("DELETE FROM server")
            db.execute("DELETE FROM wait")
        if not keep_history:
            db.create_function("new_id", 0, lambda: secrets.token_hex(ID_SIZE // 2))
            empty = "first_seq - 1" if version >= _FIRST_SEQ_SINCE else "0"
            db.execute(_RENEW.replace("{empty}", empty))
            db.execute("UPDATE store SET epoch = ?", (secrets.token_hex(8),))
        db.execute("COMMIT")


def _give_owner(descriptor: int, target: Path) -> None:
    """If this user is root, give an open file to the owner of the store, or of its folder."""
    if os.geteuid() == 0:
        owner = (target if target.exists() else target.parent).stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def _place(draft: Partial, target: Path, source: Path) -> None:
    """Put the new store in its place. Raises StoreRefused and OSError."""
    log, journal = [filesystem.beside(target, ending) for ending in ("-wal", "-journal")]
    if not target.exists() and not log.exists():
        journal.unlink(missing_ok=True)
        draft.place(replace=False)
        return
    lock = WriteLock(target, LOCK_TIMEOUT)
    try:
        _give_owner(lock.descriptor, target)
        with lock.held():
            if target.exists() and (log.exists() or journal.exists()):
                # Without them, the former store must not be served.
                again = f"threadbus restore {shlex.quote(str(source.absolute()))}"
                again += f" --db {shlex.quote(str(target))} --force"
                rescue.record_incomplete(lock.descriptor, target, again)
                os.fsync(lock.descriptor)
            if log.exists():
                rescue.set_aside(target)
            # What a program has left that was killed: SQLite would roll it back into the new store.
            journal.unlink(missing_ok=True)
            draft.place(replace=True)
            rescue.forget(lock.descriptor, target)
    except StoreBusy:
        raise StoreRefused(f"{target} is being served: stop every server on it") from None
    finally:
        lock.close()
