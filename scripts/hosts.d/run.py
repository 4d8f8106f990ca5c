"""Runs real coding agents against a scripted model and a real server."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from checks import FAILED, Report, check_bridge, check_conversation, check_hooks
from hosts import RUNNERS, HostError
from report import ROWS, matrix
from stage import Bus, Place

from bus_client import BusError
from bus_client.hosts.table import HOSTS

_DESCRIPTION = """\
Runs coding agents ("hosts") as their users install them, with an empty home directory, against a
scripted model on loopback and a real server. Prints what works as Markdown; exit code 0 if all of
it does."""

_EPILOG = """\
Each host is configured by `threadbus install`, and runs three times: it calls all tools of the
bridge, and is woken by a message; it runs with hooks, and a message is unread at each moment at
which one runs; and it converses with another host. A cell with a role says in which role the
model was given the text.

No account is needed, and nothing is sent to the network: where the system permits it (unshare), the
hosts have none. scripts/hosts --install needs it, and npm: 1.8 GB.
"""


def main() -> int:
    """Run the command line. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="scripts/hosts",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = f"a host: {', '.join(RUNNERS)} (default: all)"
    parser.add_argument("host", nargs="*", metavar="HOST", help=names)
    parser.add_argument("--install", action="store_true", help="install the hosts, and run nothing")
    parser.add_argument(
        "--break",
        dest="broken",
        action="store_true",
        help="break the bridge and the hooks once they are configured: a control, which succeeds "
        "if all checks fail",
    )
    given = parser.parse_args()
    if unknown := [name for name in given.host if name not in RUNNERS]:
        parser.error(f"there is no host {unknown[0]!r}")
    hosts = given.host or list(RUNNERS)
    return _install(hosts) if given.install else _run(hosts, given.broken)


def _install(hosts: list[str]) -> int:
    failed = 0
    for name in hosts:
        print(f"── {name}: {' '.join(RUNNERS[name].packages)}", file=sys.stderr)
        try:
            RUNNERS[name].install()
        except HostError as error:
            print(f"{name} cannot be installed: {error}", file=sys.stderr)
            failed = 1
    return failed


def _run(hosts: list[str], broken: bool) -> int:
    reports = {name: Report(name, RUNNERS[name].version) for name in hosts}
    present = [name for name in hosts if reports[name].version]
    for name in hosts:
        if name not in present:
            reports[name].faults.append(f"it is missing: `scripts/hosts --install {name}`")
    with tempfile.TemporaryDirectory(prefix="threadbus-hosts-") as folder, Bus(Path(folder)) as bus:
        stage = _Stage(Path(folder), bus, reports, broken)
        for name in present:
            stage.bridge(name)
            if HOSTS[name].events:
                stage.hooks(name)
        for first, second in zip(present[::2], present[1::2], strict=False):
            stage.conversation(first, second)
        if len(present) % 2 and len(present) > 1:
            stage.conversation(present[-1], present[0])
    print(matrix(list(reports.values())))
    if not broken:
        return int(any(report.faults for report in reports.values()))
    return _judge_control([reports[name] for name in present])


def _judge_control(reports: list[Report]) -> int:
    """Returns 0 if all checks of the broken bridge and hooks failed."""
    no_success = {FAILED, "not shown", "not here"}
    wrong = [
        f"{report.name}: {ROWS[key]}"
        for report in reports
        for key, cell in report.cells.items()
        if cell not in no_success
    ]
    found = f"the control failed: these succeeded: {', '.join(wrong)}" if wrong else ""
    print(found or "the control succeeded: everything failed", file=sys.stderr)
    return int(bool(wrong) or not reports)


class _Stage:
    """Plays the checks, each host's in folders of its own."""

    def __init__(self, folder: Path, bus: Bus, reports: dict[str, Report], broken: bool) -> None:
        self._folder = folder
        self._bus = bus
        self._reports = reports
        self._broken = broken

    def _place(self, name: str, what: str) -> Place:
        print(f"── {name}: {what}", file=sys.stderr)
        runner = RUNNERS[name]
        folder = self._folder / f"{name}-{what}"
        agent = f"{name}-{what}"
        return Place(runner, folder, self._bus.address, agent, breaks=self._broken)

    def _try(self, check: Callable[[], None], *names: str) -> None:
        try:
            check()
        except (HostError, BusError) as error:
            for name in names:
                self._reports[name].faults.append(str(error))

    def bridge(self, name: str) -> None:
        """Check the bridge of a host."""
        place = self._place(name, "tools")
        report = self._reports[name]
        self._try(lambda: check_bridge(place, self._bus, report), name)

    def hooks(self, name: str) -> None:
        """Check the hooks of a host."""
        place = self._place(name, "hooks")
        report = self._reports[name]
        self._try(lambda: check_hooks(place, self._bus, report), name)

    def conversation(self, first: str, second: str) -> None:
        """Check a conversation of two hosts."""
        places = self._place(first, f"to-{second}"), self._place(second, f"to-{first}")
        reports = self._reports[first], self._reports[second]
        self._try(lambda: check_conversation(*places, self._bus, reports), first, second)


if __name__ == "__main__":
    sys.exit(main())
