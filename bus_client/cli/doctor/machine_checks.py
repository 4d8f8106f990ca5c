"""Checks of this machine: its limits, and the user's own files."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from bus_client import credentials
from bus_client.cli.doctor.check import Check
from bus_client.errors import CredentialsError

_OPEN_FILES = 4_096  # fewer are a warning


def machine_checks() -> Iterator[Check]:
    """Yields the checks of this machine, for servers and agents that are started on it."""
    yield _open_files()
    if check := _credentials():
        yield check


def readable_by_others(path: Path) -> bool:
    """Returns whether the group or others have any permission on the file.

    Raises:
        OSError: The file cannot be inspected.
    """
    return bool(stat.S_IMODE(path.stat().st_mode) & 0o077)


def _open_files() -> Check:
    import resource

    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)  # servers raise the soft limit to it
    if limit == resource.RLIM_INFINITY:
        return Check("open files", "ok", "no limit")
    if limit >= _OPEN_FILES:
        return Check("open files", "ok", f"up to {limit:,} in a process")
    return Check(
        "open files",
        "warning",
        f"up to {limit:,} in a process: a server needs at least one for each connected agent",
        "Run ulimit -Hn 65536 before threadbus serve, or set LimitNOFILE=65536 in its unit.",
    )


def _credentials() -> Check | None:
    """Returns the check of the file with the user's tokens; None if there is no such file."""
    try:
        path = credentials.default_path()
    except CredentialsError as error:
        return Check(
            "credentials",
            "warning",
            error.message,
            "Set HOME or XDG_DATA_HOME to an absolute path, or set THREADBUS_CREDENTIALS.",
        )
    try:
        if not path.exists():
            return None
        if readable_by_others(path):
            finding = f"others can read or write the tokens in {path}"
            return Check("credentials", "failure", finding, f"chmod 600 {path}, or add --fix")
        credentials.kept_token(path, "", "")
    except (CredentialsError, OSError) as error:
        return Check("credentials", "failure", str(error), "Repair the file, or move it away.")
    return Check("credentials", "ok", f"{path} is readable by its owner only")
