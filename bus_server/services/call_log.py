"""The log of calls: each at level debug, and those that the server failed as a warning."""

import asyncio
import logging
from collections import Counter

from bus_server import logs
from bus_server.services.call import FinishedCall
from bus_server.services.peer import peer_address

logger = logging.getLogger(__name__)

#: Why calls fail without a fault of their callers: a bug, a lack of room, or a failing store. That
#: of UNAVAILABLE is a post whose outcome is unknown.
FAULTS = ("INTERNAL", "STORE_BUSY", "STORE_FAILED", "STORAGE_FULL", "UNAVAILABLE")

#: How many failures for the same reason are logged as warnings in a period of so many seconds; at
#: its end, how many more there were. So callers cannot fill the log.
MAX_FAILURES, PERIOD = 10, 60.0


class CallLog:
    """Logs calls, as an observer of the dispatcher. Use it on the event loop only."""

    def __init__(self) -> None:
        #: How many calls failed in the current period, by reason.
        self._failures = Counter[str]()

    def wants(self, *, failed: bool) -> bool:
        """Returns whether a call may have to be logged."""
        return failed or logger.isEnabledFor(logging.DEBUG)

    def record(self, call: FinishedCall) -> None:
        """Log a call, or count it."""
        reason = call.reason or call.code.name
        if reason in FAULTS and self._counts(reason):
            self._log(logging.WARNING, call, reason)
        elif logger.isEnabledFor(logging.DEBUG):
            self._log(logging.DEBUG, call, reason)

    def close(self) -> None:
        """End the period: log how many failures were not logged as warnings."""
        failures, self._failures = self._failures, Counter()
        for reason, count in failures.items():
            if (more := count - MAX_FAILURES) > 0:
                text, fields = "… and %d more: %s", {"reason": reason, "count": more}
                logs.event(logger, logging.WARNING, "calls_failed", text, more, reason, **fields)

    def _counts(self, reason: str) -> bool:
        """Count a failure. Returns whether it is to be logged as a warning."""
        if not self._failures:
            asyncio.get_running_loop().call_later(PERIOD, self.close)
        self._failures[reason] += 1
        return self._failures[reason] <= MAX_FAILURES

    def _log(self, level: int, call: FinishedCall, outcome: str) -> None:
        service, _, method = call.method[1:].rpartition("/")
        agent, ms = call.caller.name if call.caller else "", call.duration * 1000
        logs.event(
            logger,
            level,
            "call",
            "%s of %s: %s in %.1f ms",
            method or "unknown method",
            agent or call.peer,
            outcome,
            ms,
            service=service,
            method=method,
            code=call.code.name,
            reason=call.reason,
            ms=round(ms, 3),
            agent=agent,
            peer=peer_address(call.peer),
            requests=call.requests,
            request_bytes=call.request_bytes,
            responses=call.responses,
            response_bytes=call.response_bytes,
        )
