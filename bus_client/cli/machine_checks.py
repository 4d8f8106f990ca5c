"""What `threadbus doctor` looks at on this machine: limits, and the user's own files."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from bus_client import credentials
from bus_client.cli.checks import Check

_OPEN_FILES = 4_096


def machine_checks() -> Iterator[Check]:
    """Looks at what counts for a server and for agents that are started from here."""
    yield _open_files()
    kept = credentials.default_path()
    if kept.exists():
        yield _credentials(kept)


def others_may_read(path: Path) -> bool:
    """Whether the group or others have any right to the file."""
    return bool(stat.S_IMODE(path.stat().st_mode) & 0o077)


def _open_files() -> Check:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return Check("open files", "ok", "no limit")
    if soft >= _OPEN_FILES:
        return Check("open files", "ok", f"up to {soft:,} in a process")
    most = "" if hard == resource.RLIM_INFINITY else f", the hard limit {hard:,}"
    return Check(
        "open files",
        "warning",
        f"up to {soft:,} in a process{most}: a server needs one for each agent that is connected",
        "ulimit -n 65536 before threadbus serve, or LimitNOFILE=65536 in its systemd unit.",
    )


def _credentials(path: Path) -> Check:
    if others_may_read(path):
        return Check(
            "credentials",
            "failure",
            f"others may read the tokens in {path}",
            f"chmod 600 {path}",
        )
    return Check("credentials", "ok", f"{path} is readable by its owner only")
