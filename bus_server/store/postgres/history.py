"""Gives threads new epochs if the database may lack commits that were acknowledged.

Readers may have read what is gone. With the old epochs, they would take what is posted next for
what they have read.
"""

import logging
from dataclasses import dataclass

from bus_server.errors import StoreBusy
from bus_server.store.epochs import ID_SIZE
from bus_server.store.postgres.connection import NOW, Connection
from bus_server.store.postgres.gather import lock_key

logger = logging.getLogger(__name__)

#: Seconds in which all threads get new epochs.
RENEW_TIMEOUT = 120.0

#: Microseconds since a commit in which a standby takes over, if one does.
RECENT = 600 * 1_000_000

#: SQL for where the store is: the database cluster, its timeline, which changes when a standby
#: takes over and when a backup is restored to a point in time, and the table meta, which is another
#: one after a dump was restored.
PLACE = (
    "(SELECT system_identifier FROM pg_control_system())"
    " || '.' || left(pg_walfile_name(pg_current_wal_lsn()), 8)"
    " || '.' || 'meta'::regclass::oid"
)
#: SQL for whether a commit of this session is answered only when a standby has it.
CONFIRMED = (
    "(current_setting('synchronous_standby_names') <> ''"
    " AND current_setting('synchronous_commit') <> 'off')"
)

_LOOK = f"SELECT place, {PLACE}, history FROM meta"  # noqa: S608
_LOCK = "SELECT pg_advisory_xact_lock(%(key)s)"
# Of rows not long ago: a recovery to a point in time looks like a standby that takes over, and its
# newest commits are old.
_CONFIRMED = f"""
SELECT coalesce(bool_and(confirmed), false) FROM writer WHERE seen_time > {NOW} - %(recent)s
"""  # noqa: S608
_PATIENCE = "SELECT set_config('lock_timeout', %(timeout)s, true)"
_LOCK_THREADS = "LOCK TABLE thread IN EXCLUSIVE MODE"
# As epochs.py says.
_RENEW = f"""
UPDATE thread SET epoch = left(gen_random_uuid()::text, {ID_SIZE})
    || '.' || to_hex(CASE WHEN %(shared)s THEN last_seq ELSE 0 END) || '.' || left(epoch, {ID_SIZE})
"""  # noqa: S608
_SAVE = "UPDATE meta SET place = %(place)s, history = history + %(renewed)s::int"


_WHERE = f"SELECT {PLACE}"


@dataclass(frozen=True, slots=True)
class History:
    """Where a store is, and how often its threads got new epochs."""

    place: str
    number: int


async def place(db: Connection) -> str:
    """Returns where the store of a connection is."""
    ((found,),) = (await db.run((_WHERE, {})))[0]
    return str(found)


async def follow(db: Connection, known: History | None, *, lost: bool, epoch: str) -> History:
    """Returns the store's history. Before, gives the threads new epochs if commits may be missing.

    That is: if the store is elsewhere than before, unless a standby took over, and a standby had
    confirmed the last commit of each server of late; and if this server knows that commits are
    missing. Of several servers, one does it. Call it on each new connection that writes, before
    anything is written.

    Args:
        known: the history as of the last connection; None: there was none.
        lost: whether the database lacks commits that this server acknowledged.
        epoch: the store's.

    Raises what Connection.run does, and StoreBusy if the store is incomplete; then close the
    connection.
    """
    (found,) = await db.run((_LOOK, {}))
    if not found:
        raise StoreBusy("the store is being restored")
    ((before, here, number),) = found
    if before == here and not lost:
        return History(here, number)
    _, _, _, looked, ((confirmed,),) = await db.run(
        ("BEGIN", {}),
        (_PATIENCE, {"timeout": f"{RENEW_TIMEOUT:.0f}s"}),
        (_LOCK, {"key": lock_key(f"{epoch} history")}),
        (_LOOK, {}),
        (_CONFIRMED, {"recent": RECENT}),
        timeout=RENEW_TIMEOUT,
    )
    ((before, here, number),) = looked
    moved = before != here
    # Else it is a copy, such as a dump that was restored.
    taken_over = before.split(".")[::2] == here.split(".")[::2]
    renewed = moved and not (confirmed and taken_over)
    if lost and (known is None or number <= known.number):
        renewed = True  # no other server has done it
    if renewed:
        # What is here is the beginning of what was there, as long as nobody has written since.
        await db.run((_LOCK_THREADS, {}), (_RENEW, {"shared": moved}), timeout=RENEW_TIMEOUT)
    await db.run((_SAVE, {"place": here, "renewed": renewed}), ("COMMIT", {}))
    if renewed:
        logger.critical(
            "commits that were acknowledged may be missing: the database was restored, has crashed"
            " without fsync, or a standby took its place that did not confirm them. All threads"
            " have new epochs, so that readers of what is missing get a resync"
        )
    elif moved:
        logger.warning("the database has moved; a standby had confirmed every commit")
    return History(here, number + renewed)
