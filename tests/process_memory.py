"""The memory of a process, from /proc."""

import re
from pathlib import Path


def memory(pid: int) -> int:
    """Returns the bytes of memory that a process holds now."""
    return _status(pid, "VmRSS")


def peak_memory(pid: int) -> int:
    """Returns the most bytes of memory that a process held, since it started or `forget_peak`."""
    return _status(pid, "VmHWM")


def forget_peak(pid: int) -> None:
    """Reset the peak."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _status(pid: int, key: str) -> int:
    found = re.search(rf"^{key}:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.M)
    assert found is not None
    return int(found[1]) * 1024
