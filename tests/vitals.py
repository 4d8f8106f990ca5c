"""What the kernel knows of a process."""

import re
from pathlib import Path


def memory(pid: int) -> int:
    """Bytes of memory that a process holds now."""
    return _status(pid, "VmRSS")


def peak_memory(pid: int) -> int:
    """Bytes of memory that a process has held at most, since it started or `forget_peak`."""
    return _status(pid, "VmHWM")


def forget_peak(pid: int) -> None:
    """Count the peak from now on."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _status(pid: int, key: str) -> int:
    found = re.search(rf"^{key}:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.M)
    assert found is not None
    return int(found[1]) * 1024
