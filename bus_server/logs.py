"""The server's log on standard error: its formats, its events, and what it must not contain.

A record is one line, but for a traceback in the text format. It contains neither tokens nor the
content of messages, at any level. Nobody can write a line of their own with a name or an address:
characters that are not printable are escaped.

A record may be an event: it then has a name that does not change, and fields. docs/operations.md
lists the events.
"""

import asyncio
import contextlib
import json
import logging
import sys
import threading
import traceback
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

#: The text of these exceptions, and of those that the server and SQLite define, is logged. That of
#: others may quote what a caller sent, such as "invalid literal for int(): …".
_SAFE = (OSError, AttributeError, NameError, ImportError, MemoryError, RuntimeError, SystemExit)
_SAFE_MODULES = ("bus_server", "sqlite3")


def event(
    logger: logging.Logger, level: int, name: str, message: str, *args: object, **fields: object
) -> None:
    """Log an event.

    Args:
        logger: Where.
        level: As for `Logger.log`.
        name: The name of the event.
        message: What happened, for people; a format for `args`.
        fields: What programs should know of it. They are only part of the JSON format.
    """
    extra = {"event": name, "fields": fields}
    logger.log(level, message, *args, extra=extra, stacklevel=2)


def set_up(level: str, log_format: str) -> None:
    """Log to standard error from now on, at this level and in this format.

    Both as in the settings. Call it again to change them. Python's warnings, and exceptions that
    nothing catches, are logged, too.
    """
    root = logging.getLogger()
    handler = next((each for each in root.handlers if isinstance(each, _StandardError)), None)
    if handler is None:
        handler = _StandardError()
        root.addHandler(handler)
    handler.setFormatter(Json() if log_format == "json" else Text())
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread


def printable(text: str) -> str:
    """Returns a text in which characters that are not printable, such as newlines, are escaped."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode("ascii")
        for each in text
    )


def reason(error: BaseException) -> str:
    """Returns what an exception says, or its type if its text may quote what a caller sent."""
    kind = type(error)
    if isinstance(error, _SAFE) or kind.__module__.partition(".")[0] in _SAFE_MODULES:
        return str(error)
    return kind.__qualname__


def log_loop_errors(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what went wrong in an event loop, as its exception handler.

    asyncio's own logs the reprs of exceptions and coroutines, which may quote what a caller sent.
    """
    del loop
    logging.getLogger("asyncio").error("%s", context["message"], exc_info=context.get("exception"))


class _StandardError(logging.StreamHandler[Any]):
    """The one handler of the server's log."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, unless the shell had closed standard error."""
        if self.stream is not None:
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Log that a record could not be, without what is in it. No error if that fails, too."""
        if isinstance(sys.exc_info()[1], OSError):
            return
        text = "a record from %s:%d could not be logged"
        where = (record.filename, record.lineno)
        instead = logging.LogRecord(record.name, logging.ERROR, "", 0, text, where, None)
        with contextlib.suppress(OSError, ValueError):
            self.stream.write(self.format(instead) + self.terminator)


class _Formatter(logging.Formatter):
    def formatException(self, ei: Any) -> str:
        """Returns a traceback. The text of an exception is as `reason` returns it."""
        lines = list[str]()
        seen = set[int]()

        def add(error: BaseException) -> None:
            if id(error) in seen:
                return
            seen.add(id(error))
            if error.__cause__ is not None:
                add(error.__cause__)
                lines.append("The above exception was the cause of this one:")
            elif error.__context__ is not None and not error.__suppress_context__:
                add(error.__context__)
                lines.append("During the handling of the above exception, this one occurred:")
            lines.append("Traceback (most recent call last):")
            for frame in traceback.format_tb(error.__traceback__):
                lines.extend(map(printable, frame.splitlines()))
            kind, text = type(error).__qualname__, reason(error)
            lines.append(printable(f"{kind}: {text}" if text not in ("", kind) else kind))
            if isinstance(error, BaseExceptionGroup):
                for each in error.exceptions:
                    add(each)

        add(ei[1])
        return "\n".join(lines)


class Text(_Formatter):
    """The format for people."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns `TIME LEVEL LOGGER: MESSAGE`, in local time, and the traceback if any."""
        message = printable(record.getMessage())
        line = f"{self.formatTime(record)} {record.levelname} {record.name}: {message}"
        return f"{line}\n{self.formatException(record.exc_info)}" if _raised(record) else line


def time_of(record: logging.LogRecord) -> str:
    """Returns when a record was made: in UTC, as in RFC 3339, with microseconds and a Z."""
    at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds")
    return at.replace("+00:00", "Z")


class Json(_Formatter):
    """The format for programs: one JSON object in each line, in ASCII."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns an object with `time`, `level`, `logger`, and what the record has of `event`,
        `message`, the event's fields, and `traceback`.
        """
        line: dict[str, object] = {
            "time": time_of(record),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        found = vars(record)
        if "event" in found:
            line["event"] = found["event"]
        if not found.get("message_is_fields"):
            line["message"] = record.getMessage()
        line |= found.get("fields", {})
        if _raised(record):
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def _raised(record: logging.LogRecord) -> bool:
    return bool(record.exc_info and record.exc_info[1])


def _log_uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    logging.getLogger(__name__).critical("an exception was not caught", exc_info=error)


def _log_uncaught_in_thread(raised: threading.ExceptHookArgs) -> None:
    name = raised.thread.name if raised.thread else "a thread"
    logging.getLogger(__name__).critical(
        "an exception was not caught in %s", name, exc_info=raised.exc_value
    )
