"""File descriptors, of which each connection takes one: whether there are any left."""

import asyncio
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
