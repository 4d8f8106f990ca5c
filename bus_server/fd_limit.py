"""File descriptors, of which each connection takes one: how many there are, and if any is left."""

import asyncio
import contextlib
import errno
import logging
import os
import resource
import time

logger = logging.getLogger(__name__)

#: Seconds between two looks.
INTERVAL = 1.0
#: Seconds between two times that it is logged: callers who come and go must not fill the log.
QUIET = 60.0
#: Descriptors that are enough for anybody; a few systems take no more.
PLENTY = 65_536


def raise_limit() -> None:
    """Raise the soft limit of this process to the hard one, or to PLENTY if that is less.

    The usual soft limit, 1,024, is for programs that use select(). For a server it is a limit of a
    thousand agents that nobody has set on purpose.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = PLENTY if hard == resource.RLIM_INFINITY else min(hard, PLENTY)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # the system knows a lower one
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def watch_forever() -> None:
    """Log when no file descriptor is left, and when there are some again.

    gRPC waits in silence until it can accept the next connection, and callers wait with it.
    """
    logged = -QUIET
    out = False
    while True:
        left = _left()
        if left and out:
            out = False
            logger.warning("there are file descriptors again: new connections are accepted")
        elif not (left or out) and time.monotonic() - logged >= QUIET:
            out = True
            logged = time.monotonic()
            logger.warning(
                "no file descriptor is left, of %d: new connections wait until others end; raise "
                "the limit (ulimit -n, or LimitNOFILE= of a systemd unit)",
                resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            )
        await asyncio.sleep(INTERVAL)


def _left() -> bool:
    try:
        os.close(os.open("/", os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        return error.errno not in (errno.EMFILE, errno.ENFILE)
    return True
