"""Loads the store's clock, whose base is stored in the file."""

import sqlite3

from bus_server.store.clock import StoreClock, wall_time
from bus_server.store.sqlite.reads import EVIDENCE_TIME
from threadbus.limits import MAX_GRACE

#: The newest sign of life in the store.
_NEWEST = f"SELECT coalesce(max({EVIDENCE_TIME}), 0) FROM presence"  # noqa: S608
#: Limits the expire times of rotated tokens to the longest grace from now.
_CUT = (
    "UPDATE token SET expire_time = :latest WHERE expire_time > :latest AND expire_time <> end_time"
)


def load_clock(db: sqlite3.Connection, boot: str) -> StoreClock:
    """Returns the clock of a store. Stores a new base if the machine has rebooted since.

    Also bounds the expire times of rotated tokens by the longest grace. The caller must hold the
    write lock. Raises sqlite3.Error.

    Args:
        boot: the system's id of this boot; empty if it has none.
    """
    row = db.execute("SELECT base FROM clock WHERE boot = ?", (boot,)).fetchone()
    (newest,) = db.execute(_NEWEST).fetchone()
    clock = None if row is None else StoreClock(*row)
    # Where boots have no ids, a clock that went back indicates a reboot.
    if clock is None or (not boot and clock.now() < newest):
        clock = StoreClock.starting_at(max(wall_time(), newest))
        db.execute("DELETE FROM clock")
        db.execute("INSERT INTO clock (boot, base) VALUES (?, ?)", (boot, clock.base))
    db.execute(_CUT, {"latest": clock.now() + round(MAX_GRACE * 1e6)})
    return clock
