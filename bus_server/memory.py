"""Memory that is no longer used goes back to the system."""

import asyncio
import contextlib
import ctypes
import math
import os
from pathlib import Path

#: Seconds between two times.
INTERVAL = 5.0
#: Bytes by which the process must have grown since it was smallest.
WORTH_IT = 32 * 1024 * 1024


async def trim_forever() -> None:
    """Have the allocator give back what is free whenever the process has grown.

    glibc keeps what is freed between two blocks in use, for minutes: after a burst of large
    requests the process would stay as large as it ever was. Other C libraries do without.
    """
    loop = asyncio.get_running_loop()
    least = math.inf
    while True:
        # A process without a descriptor or a thread to spare goes on as it is.
        with contextlib.suppress(OSError, AttributeError, RuntimeError):
            now = _resident()
            least = min(least, now)
            if now > least + WORTH_IT:
                await loop.run_in_executor(None, _trim)  # without Python's lock
        await asyncio.sleep(INTERVAL)


def _trim() -> None:
    ctypes.CDLL(None).malloc_trim(0)


def _resident() -> int:
    """Bytes of the process that are in memory. Raises OSError where there is no /proc."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
