"""Gives unused memory back to the system."""

import asyncio
import contextlib
import ctypes
import math
import os
from pathlib import Path

#: Seconds between two checks.
INTERVAL = 5.0
#: Bytes by which the process must have grown from its minimum before it is trimmed.
MIN_GROWTH = 32 * 1024 * 1024


async def trim_forever() -> None:
    """Have glibc return free memory whenever the process has grown. Runs until cancelled.

    glibc keeps freed memory that lies between blocks in use: after a burst of large requests the
    process would stay at its peak size for minutes. Does nothing with other C libraries, or without
    /proc.
    """
    loop = asyncio.get_running_loop()
    least = math.inf
    while True:
        # Skip the check without a free file descriptor or OS thread, or if it is not supported.
        with contextlib.suppress(OSError, AttributeError, RuntimeError):
            now = resident()
            least = min(least, now)
            if now > least + MIN_GROWTH:
                await loop.run_in_executor(None, _trim)  # releases the GIL
        await asyncio.sleep(INTERVAL)


def _trim() -> None:
    ctypes.CDLL(None).malloc_trim(0)


def resident() -> int:
    """Returns the resident set size in bytes. Raises OSError where there is no /proc."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
