"""What `threadbus doctor` looks at on this machine: limits, and the user's own files."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from bus_client import credentials
from bus_client.cli.doctor.check import Check
from bus_client.errors import CredentialsError

_OPEN_FILES = 4_096


def machine_checks() -> Iterator[Check]:
    """Looks at what counts for a server and for agents that are started from here."""
    yield _open_files()
    if check := _credentials():
        yield check


def others_may_read(path: Path) -> bool:
    """Whether the group or others have any right to the file."""
    return bool(stat.S_IMODE(path.stat().st_mode) & 0o077)


def _open_files() -> Check:
    import resource

    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)  # servers raise the soft one to it
    if limit == resource.RLIM_INFINITY:
        return Check("open files", "ok", "no limit")
    if limit >= _OPEN_FILES:
        return Check("open files", "ok", f"up to {limit:,} in a process")
    return Check(
        "open files",
        "warning",
        f"up to {limit:,} in a process: a server needs one for each agent that is connected",
        "ulimit -Hn 65536 before threadbus serve, or LimitNOFILE=65536 in its systemd unit.",
    )


def _credentials() -> Check | None:
    """The user's tokens, if any are kept."""
    try:
        path = credentials.default_path()
    except CredentialsError as error:
        return Check("credentials", "warning", error.message, "Set it, or THREADBUS_CREDENTIALS.")
    try:
        if not path.exists():
            return None
        if others_may_read(path):
            finding = f"others may read the tokens in {path}"
            return Check("credentials", "failure", finding, f"chmod 600 {path}")
        credentials.kept_token(path, "", "")
    except (CredentialsError, OSError) as error:
        return Check("credentials", "failure", str(error), "Mend it, or move it away.")
    return Check("credentials", "ok", f"{path} is readable by its owner only")
