"""Storage faults that last: told in the log when they begin and when they end, not in between."""

import logging
import time

logger = logging.getLogger(__name__)


class Faults:
    """The faults that a store has now, by what is wrong."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def __bool__(self) -> bool:
        return bool(self._since)

    def begin(self, fault: str, details: str) -> None:
        """Log that something is wrong from now on, unless it was already."""
        if fault not in self._since:
            self._since[fault] = time.monotonic()
            logger.error("%s: %s", fault, details)

    def end(self, fault: str) -> None:
        """Log that it is right again, if it was wrong."""
        if (since := self._since.pop(fault, None)) is not None:
            logger.warning("%s: over, after %.0f s", fault, time.monotonic() - since)
