"""What hooks keep between runs: which messages an agent was notified of, and when a hook last ran.

In a file for each server and agent, in `hooks` in the folder that THREADBUS_STATE names, or else in
the user's state directory. Any number of hooks may use them at once.
"""

from __future__ import annotations

import os
import time


def folder_of(server: str) -> str:
    """Returns the folder of a server's files. It need not exist."""
    root = os.environ.get("THREADBUS_STATE")
    if not root:
        import platformdirs

        root = platformdirs.user_state_dir("threadbus")
    return os.path.join(root, "hooks", _file_name(server))  # noqa: PTH118 - pathlib is slow to import


def is_recent(server: str, agent: str, seconds: float) -> bool:
    """Returns whether the last mark_run() for the agent was less than `seconds` ago."""
    try:
        passed = time.time() - os.stat(_stamp(server, agent)).st_mtime  # noqa: PTH116
    except (OSError, ValueError):
        return False
    return 0 <= passed < seconds  # the clock may have been set back


def mark_run(server: str, agent: str) -> None:
    """Record that a hook runs for the agent now. Raises OSError, or ValueError for a NUL."""
    os.makedirs(folder_of(server), mode=0o700, exist_ok=True)  # noqa: PTH103
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(_stamp(server, agent), flags, 0o600)
    try:
        os.utime(descriptor)
    finally:
        os.close(descriptor)


def _stamp(server: str, agent: str) -> str:
    return os.path.join(folder_of(server), f"{_file_name(agent)}.ran")  # noqa: PTH118


def _file_name(text: str) -> str:
    """Returns a file name for the text, of at most 200 characters: readable unless it is long."""
    safe = "".join(
        c if (c.isascii() and c.isalnum()) or c in "._-" else f"%{ord(c):x}" for c in text
    )
    if safe.strip(".") and len(safe) <= 200:
        return safe
    import hashlib

    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
