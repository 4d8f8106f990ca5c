"""The audit log: who was refused, and who changed what callers may do.

One JSON object in one line for each event, with `event`, `agent` (the caller; empty if it is
unknown) and `peer` (the address of its connection). docs/security.md lists the events. No line has
a token, or the content of a message.
"""

import asyncio
import json
import logging
import os
import stat
import sys
import time
from collections.abc import Mapping
from io import TextIOWrapper
from logging.handlers import WatchedFileHandler
from pathlib import Path

from bus_server import logs
from bus_server.auth import Caller

#: By default its lines are part of the server's log.
logger = logging.getLogger("threadbus.audit")
server_logger = logging.getLogger(__name__)

#: How many refusals of one method, and how many other events of one kind, are logged for a caller
#: in a period of so many seconds; at its end, how many others there were. Operators have no limit.
MAX_REFUSALS, MAX_EVENTS, PERIOD = 30, 300, 60.0
#: How many events of all callers but operators are logged in a period. So they cannot fill the log.
MAX_ALL = 3_000


class Audit:
    """The events of one server. Use it on the event loop only."""

    def __init__(self) -> None:
        #: How many events there were in the current period, by agent, machine, event, method and
        #: reason; how many of these were logged; and how many there were in all.
        self._counts: dict[tuple[str, str, str, str, str], int] = {}
        self._written: dict[tuple[str, str, str, str, str], int] = {}
        self._all = 0
        logger.setLevel(logging.INFO)  # whatever --log-level is

    def event(self, event: str, caller: Caller | None, peer: str, **fields: object) -> None:
        """Log an event.

        Args:
            caller: None: it is unknown, as it was not authenticated.
            peer: the address of its connection.
            fields: what else to log: no secrets, and no content.
        """
        agent = caller.name if caller else ""
        line = {"event": event, "agent": agent, "peer": peer, **fields}
        if caller is not None and caller.operator:
            _write(line)
            return
        # Callers without a name are told apart by their machine: it may open many connections.
        own = bool(caller and caller.own_name)
        machine = "" if own else peer.rpartition(":")[0]
        method, reason = str(fields.get("method", "")), str(fields.get("reason", ""))
        key = agent, machine, event, method, reason
        if not self._counts:
            asyncio.get_running_loop().call_later(PERIOD, self.close)
        if self._all >= MAX_ALL and key not in self._counts:
            key = "", "", event, "", ""  # of many callers
        self._all += 1
        count = self._counts[key] = self._counts.get(key, 0) + 1
        if count <= _limit(event) and self._all <= MAX_ALL:
            _write(line)
            self._written[key] = self._written.get(key, 0) + 1

    def close(self) -> None:
        """End the period: log how many events were omitted."""
        counts, written = self._counts, self._written
        self._counts, self._written, self._all = {}, {}, 0
        for key, count in counts.items():
            omitted = count - written.get(key, 0)
            if omitted:
                agent, machine, event, method, reason = key
                which = {"agent": agent, "peer": machine, "of": event, "method": method}
                _write({"event": "omitted", **which, "reason": reason, "count": omitted})


def _limit(event: str) -> int:
    return MAX_REFUSALS if event == "refused" else MAX_EVENTS


def _write(line: Mapping[str, object]) -> None:
    fields = {name: value for name, value in line.items() if name != "event"}
    extra = {"event": line["event"], "fields": fields, "message_is_fields": True}
    logger.info("%s", json.dumps(line), extra=extra)


def log_to(path: Path) -> None:
    """Append the audit log to a file from now on, and not to the server's log.

    The file is opened again if it is moved away, as log rotation does. Raises OSError if it cannot
    be written, or is not a regular file.
    """
    logger.addHandler(_File(path))
    logger.propagate = False


def reopen() -> None:
    """Open the file of the audit log again with the next event, if there is one."""
    for handler in logger.handlers:
        handler.close()


class _File(WatchedFileHandler):
    """A file of lines, each with its time. That it cannot be written is logged once a minute."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8")
        self._warn_at = 0.0

    def _open(self) -> TextIOWrapper:
        # NONBLOCK: opening a named pipe would hang.
        how = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC
        handle = os.open(self.baseFilename, how, 0o600)
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise OSError("it is not a regular file")
        return os.fdopen(handle, "a", encoding="utf-8")

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps({"time": logs.time_of(record)} | json.loads(record.getMessage()))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except OSError:  # it was moved away, and cannot be opened again
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        if time.monotonic() >= self._warn_at:
            self._warn_at = time.monotonic() + PERIOD
            why = sys.exc_info()[1]
            server_logger.warning("cannot write the audit log %s: %s", self.baseFilename, why)
