"""Memory that is no longer used goes back to the system."""

import asyncio
import ctypes
import functools
import os
from collections.abc import Callable
from pathlib import Path

#: Seconds between two times.
INTERVAL = 5.0
#: Bytes that the process must have more than it had at its smallest.
WORTH_IT = 32 * 1024 * 1024


async def give_back() -> None:
    """Have the allocator give back what is free, for ever, while the process has grown.

    glibc keeps what is freed between two blocks in use, for minutes: after a burst of large
    requests the process would stay as large as it ever was. Other C libraries do without.
    """
    trim = _trim()
    if trim is None:
        await asyncio.Event().wait()
        return
    loop = asyncio.get_running_loop()
    least = _resident()
    while True:
        await asyncio.sleep(INTERVAL)
        if _resident() > least + WORTH_IT:
            await loop.run_in_executor(None, trim)  # some milliseconds, without Python's lock
        least = min(least, _resident())


def _trim() -> Callable[[], object] | None:
    try:
        malloc_trim = ctypes.CDLL(None).malloc_trim
        _resident()
    except (AttributeError, OSError):
        return None
    return functools.partial(malloc_trim, 0)


def _resident() -> int:
    """Bytes of the process that are in memory. Raises OSError where there is no /proc."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
