"""The verb `threadbus doctor`."""

from __future__ import annotations

import dataclasses
from contextlib import aclosing
from pathlib import Path

import click

import bus_client
from bus_client.cli import health
from bus_client.cli.doctor.check import Check
from bus_client.cli.doctor.file_checks import file_checks, integrity_check
from bus_client.cli.doctor.fixes import fix_machine, fix_store
from bus_client.cli.doctor.machine_checks import machine_checks
from bus_client.cli.doctor.server_checks import server_checks
from bus_client.cli.failures import FAILED, SERVER_HINT, UNREACHABLE
from bus_client.cli.options import check_agent, seconds_option
from bus_client.cli.session import Session, on_server
from bus_client.cli.text import safe

_DEFAULT_DB = Path("threadbus.db")


@click.command()
@click.option(
    "--db",
    metavar="FILE",
    envvar="THREADBUS_DB",
    show_envvar=True,
    type=click.Path(path_type=Path, readable=False),
    default=lambda: _DEFAULT_DB if _DEFAULT_DB.exists() else None,
    show_default="./threadbus.db, if it exists",
    help="Also check the server's database file.",
)
@click.option(
    "--deep", is_flag=True, help="Read the whole database file to find damage; may take minutes."
)
@click.option(
    "--fix",
    is_flag=True,
    help="Let only their owner open the store's files and your tokens, remove what killed programs "
    "left, and rebuild missing indexes; with --deep, also damaged ones. Never changes messages.",
)
@click.option(
    "--serving",
    is_flag=True,
    help="Only ask the server whether it serves, as the health check of a container does. Needs no "
    "token and writes nothing.",
)
@seconds_option("--timeout", default=5.0, help="How long to try each call, and the wake-up check.")
@click.option(
    "--as",
    "agent",
    metavar="NAME",
    envvar="THREADBUS_AGENT",
    show_envvar=True,
    callback=check_agent,
    help="Also check the token stored for NAME.",
)
@on_server
async def doctor(session: Session, db: Path | None, deep: bool, fix: bool, serving: bool) -> int:
    """Check a server, this machine and, if it is on this machine, the server's database file.

    Each check is ok, a warning, a failure or skipped; unless it is ok, it says what to do. To
    measure how fast a post wakes a waiting client, a thread named doctor-… is created, and deleted
    afterwards. Without --fix, nothing else is changed; no agent is registered.

    Exit code 0: no failure, but perhaps warnings. 1: a failure. 4: the server cannot be reached, or
    cannot serve now; this machine and the file are checked all the same.

    \b
    Examples:
      threadbus doctor
      threadbus doctor --db team.db --deep
      threadbus doctor --db team.db --fix
      threadbus doctor --serving
      threadbus doctor --as reviewer --json | jq '.checks[] | select(.status != "ok")'
    """
    if serving:
        return await _serving(session)
    checks: list[Check] = []

    def report(check: Check) -> None:
        checks.append(check)
        if not session.out.json:
            session.out.show(None, check.lines(colour=session.out.colour))

    reached = True
    try:
        anonymous = dataclasses.replace(session, agent=None, token=None)
        async with anonymous.connect() as bus, aclosing(server_checks(session, bus)) as found:
            async for check in found:
                report(check)
    except bus_client.BusError as error:
        reached = not isinstance(error, bus_client.Unavailable)
        await health.explain(error, session)
        report(_server_failure(session.server, error))
    fixed: list[str] = []
    if fix:
        fixed = [*fix_machine(), *(await fix_store(db, deep=deep) if db is not None else [])]
        if not session.out.json:
            session.out.show(None, [f"fixed    {safe(each)}" for each in fixed])
    for check in machine_checks():
        report(check)
    if db is not None:
        for check in file_checks(db):
            report(check)
        if deep and any(check.name == "database" and check.status == "ok" for check in checks):
            report(await integrity_check(db))
    healthy = not any(check.status == "failure" for check in checks)
    if session.out.json:
        _show_document(session, checks, **({"fixed": fixed} if fix else {}))
    return UNREACHABLE if not reached else 0 if healthy else FAILED


async def _serving(session: Session) -> int:
    """Report whether the health service says SERVING. Returns the exit code."""
    try:
        if await health.is_serving(session):
            check = Check("server", "ok", f"{session.server} is serving")
        else:
            finding = f"{session.server} is there, but not serving"
            check = Check("server", "failure", finding, health.ADVICE)
    except bus_client.BusError as error:
        check = _server_failure(session.server, error)
    if session.out.json:
        _show_document(session, [check])
    else:
        session.out.show(None, check.lines(colour=session.out.colour))
    return 0 if check.status == "ok" else UNREACHABLE


def _show_document(session: Session, checks: list[Check], **more: object) -> None:
    healthy = not any(check.status == "failure" for check in checks)
    document = {"checks": [dataclasses.asdict(check) for check in checks], "healthy": healthy}
    session.out.show(document | more, [])


def _server_failure(address: str, error: bus_client.BusError) -> Check:
    if isinstance(error, bus_client.Unreachable):
        advice = error.hint if error.hint != type(error).hint else SERVER_HINT
    elif error.code == "UNIMPLEMENTED":
        advice = f"Another program listens at {address}: set --server."
    else:
        advice = error.hint
    return Check("server", "failure", error.message, advice)
