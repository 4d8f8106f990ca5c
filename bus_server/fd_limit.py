"""The limit on file descriptors; each connection takes one."""

import asyncio
import contextlib
import errno
import logging
import os
import resource
import time

logger = logging.getLogger(__name__)

#: Seconds between two checks.
CHECK_INTERVAL = 1.0
#: Minimum seconds between two log entries that none is left: clients that reconnect must not fill
#: the log.
LOG_INTERVAL = 60.0
#: The highest soft limit to ask for. More is never needed, and a few systems refuse it.
MAX_LIMIT = 65_536


def raise_limit() -> None:
    """Raise the soft limit of this process to the hard one, or to MAX_LIMIT if that is less.

    The usual soft limit, 1,024, is meant for programs that use select(). It would limit a server to
    a thousand connections, although nobody has chosen that limit. Leaves the limit unchanged if it
    cannot be raised.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_LIMIT if hard == resource.RLIM_INFINITY else min(hard, MAX_LIMIT)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # the system's maximum is lower
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def count_open() -> int:
    """Returns how many file descriptors this process has open. Raises OSError without /proc."""
    folder = "/proc/self/fd"
    # Linux tells the number as the size from 6.2 on. Listing ten thousand takes milliseconds.
    return os.stat(folder).st_size or len(os.listdir(folder))  # noqa: PTH116, PTH208


async def watch_forever() -> None:
    """Log when the file descriptors run out, and when some are free again. Runs until cancelled.

    gRPC itself logs nothing: it waits silently until it can accept the next connection.
    """
    logged = -LOG_INTERVAL
    out = False
    while True:
        lack = _lack()
        if out and not lack:
            out = False
            logger.warning("there are file descriptors again: new connections are accepted")
        elif lack and not out and time.monotonic() - logged >= LOG_INTERVAL:
            out = True
            logged = time.monotonic()
            logger.warning("no file descriptor is left%s", lack)
        await asyncio.sleep(CHECK_INTERVAL)


def _lack() -> str:
    """Returns which limit is reached and what to do, to follow on "is left"; "" if none is."""
    try:
        os.close(os.open("/", os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        if error.errno == errno.EMFILE:
            limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            return (
                f", of {limit}: new connections wait until others end; raise the limit (ulimit -n, "
                "or LimitNOFILE= of a systemd unit)"
            )
        if error.errno == errno.ENFILE:
            return (
                " on this machine: new connections wait until some program closes files; raise the "
                "system's limit (sysctl fs.file-max; kern.maxfiles on macOS)"
            )
    return ""
