"""Faults of the storage. Each is logged when it begins and when it ends, not while it lasts."""

import logging
import math
import time

from bus_server import logs

logger = logging.getLogger(__name__)

#: Seconds. An intermittent fault is logged at most once in this time.
QUIET = 60.0
#: Seconds. A fault that lasts this long is always logged.
LASTING = 5.0


class Faults:
    """The current faults of a store, by their names in the log."""

    def __init__(self, level: int = logging.ERROR) -> None:
        """`level`: that at which the start of a fault is logged."""
        self._level = level
        #: When each current fault began, on the monotonic clock.
        self._since: dict[str, float] = {}
        #: When the start of each fault was last logged, on the monotonic clock.
        self._told: dict[str, float] = {}
        #: The faults whose end is to be logged.
        self._open: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._since)

    def begin(self, fault: str, details: str) -> None:
        """Record a fault. Call it again while the fault lasts.

        It is logged once: at its start, or, if the same fault was logged less than QUIET seconds
        ago, when it has lasted for LASTING seconds.
        """
        now = time.monotonic()
        since = self._since.setdefault(fault, now)
        quiet = now - self._told.get(fault, -math.inf) < QUIET and now - since < LASTING
        if fault not in self._open and not quiet:
            self._open.add(fault)
            self._told[fault] = now
            fields = {"fault": fault, "details": details}
            logs.event(logger, self._level, "store_failing", "%s: %s", fault, details, **fields)

    def end(self, fault: str) -> None:
        """Record that a fault is over. Logs this if the fault itself was logged."""
        since = self._since.pop(fault, None)
        if since is not None and fault in self._open:
            self._open.remove(fault)
            seconds = round(time.monotonic() - since, 3)
            logs.event(
                logger,
                logging.WARNING,
                "store_recovered",
                "%s: over, after %.0f s",
                fault,
                seconds,
                fault=fault,
                seconds=seconds,
            )
