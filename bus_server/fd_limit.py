"""The limit on file descriptors, of which each connection takes one."""

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
#: Seconds at least between two log entries: callers that come and go must not fill the log.
LOG_INTERVAL = 60.0
#: The highest soft limit to ask for. More is never needed, and a few systems refuse it.
MAX_LIMIT = 65_536


def raise_limit() -> None:
    """Raise the soft limit of this process to the hard one, or to MAX_LIMIT if that is less.

    The usual soft limit, 1,024, is meant for programs that use select(). For a server it would be
    a limit of a thousand agents that nobody has set on purpose. Leaves the limit if it cannot be
    raised.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_LIMIT if hard == resource.RLIM_INFINITY else min(hard, MAX_LIMIT)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # the system has a lower one
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def watch_forever() -> None:
    """Log when no file descriptor is left, and when some are again. Runs until cancelled.

    gRPC waits silently until it can accept the next connection, and its callers with it.
    """
    logged = -LOG_INTERVAL
    out = False
    while True:
        available = _any_available()
        if available and out:
            out = False
            logger.warning("there are file descriptors again: new connections are accepted")
        elif not (available or out) and time.monotonic() - logged >= LOG_INTERVAL:
            out = True
            logged = time.monotonic()
            logger.warning(
                "no file descriptor is left, of %d: new connections wait until others end; raise "
                "the limit (ulimit -n, or LimitNOFILE= of a systemd unit)",
                resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            )
        await asyncio.sleep(CHECK_INTERVAL)


def _any_available() -> bool:
    try:
        os.close(os.open("/", os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        return error.errno not in (errno.EMFILE, errno.ENFILE)
    return True
