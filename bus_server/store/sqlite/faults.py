"""Lasting storage faults, logged once when they begin and once when they end."""

import logging
import math
import time

logger = logging.getLogger(__name__)

#: An intermittent fault is logged at most once in this many seconds.
QUIET = 60.0
#: A fault that lasts this many seconds is always logged.
LASTING = 5.0


class Faults:
    """The current faults of a store, by their names in the log."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        #: When each was last logged, and those whose end is to be logged.
        self._told: dict[str, float] = {}
        self._open: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._since)

    def begin(self, fault: str, details: str) -> None:
        """Log the start of a fault. Call it repeatedly while the fault lasts."""
        now = time.monotonic()
        since = self._since.setdefault(fault, now)
        quiet = now - self._told.get(fault, -math.inf) < QUIET and now - since < LASTING
        if fault not in self._open and not quiet:
            self._open.add(fault)
            self._told[fault] = now
            logger.error("%s: %s", fault, details)

    def end(self, fault: str) -> None:
        """Log the end of a fault, if its start was logged."""
        since = self._since.pop(fault, None)
        if since is not None and fault in self._open:
            self._open.remove(fault)
            logger.warning("%s: over, after %.0f s", fault, time.monotonic() - since)
