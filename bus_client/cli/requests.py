"""`threadbus requests` and `threadbus withdraw`, and requests as lines for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

import bus_client
from bus_client.cli.documents import document
from bus_client.cli.failures import NOTHING_NEW
from bus_client.cli.options import as_option, thread_and_next, timeout_option, valid_seq
from bus_client.cli.people import age
from bus_client.cli.session import Session, on_server
from bus_client.cli.text import safe
from bus_client.cli.transcript import UNKNOWN_TIME, aligned, to_utc

if TYPE_CHECKING:
    from bus_client import BusClient, Request

_STATES = ["open", "answered", "withdrawn", "closed"]


@click.command()
@click.argument("thread", envvar="THREADBUS_THREAD", required=False)
@click.option("--from-me", is_flag=True, help="Those with which you ask others.")
@click.option("--all", "everybody", is_flag=True, help="Those of everybody to everybody.")
@click.option(
    "--state",
    type=click.Choice([*_STATES, "any"]),
    default="open",
    help="Only those in this state; open: not answered, withdrawn or closed with its thread.",
)
@as_option
@timeout_option
@on_server
async def requests(
    session: Session, thread: str | None, from_me: bool, everybody: bool, state: str
) -> int | None:
    """List who is asked for a reply: by default what you are asked, and have not answered.

    `threadbus post --ask` asks. Each agent that a message asks has a request of its own, in all
    threads or in THREAD; the newest come first. Shows the thread, the seq of the message that asks,
    who asks whom, how long ago, and when it is due, or OVERDUE. Read the message with `threadbus
    read THREAD --seq SEQ`; answer it with `threadbus post THREAD --reply-to SEQ`.

    Exit code 3: there is none.

    \b
    Examples:
      threadbus requests --as reviewer
      threadbus requests design --all --state any
      threadbus requests --from-me --as coder --json | jq '.requests[] | select(.overdue)'
    """
    if from_me and everybody:
        raise click.UsageError("Use --from-me or --all, not both.")
    if not everybody and session.agent is None and session.token is None:
        raise click.UsageError("Missing agent: add --as NAME, or --all.")
    states = (
        [] if state == "any" else [bus_client.RequestState.Value(f"REQUEST_STATE_{state.upper()}")]
    )
    async with session.connect() as bus:
        listing = bus.list_requests(
            asker=bus.agent if from_me else "",
            agent="" if from_me or everybody else bus.agent,
            thread=thread or "",
            states=states,
        )
        found = [each async for each in listing]
        now = await server_time(bus)
    session.out.show({"requests": request_documents(found, now)}, request_lines(found, now))
    if found:
        return None
    session.out.note("There are no such requests.")
    return NOTHING_NEW


@click.command()
@click.argument("thread", required=False)
@click.argument("seq", required=False, metavar="SEQ")
@as_option
@timeout_option
@on_server
async def withdraw(session: Session, thread: str | None, seq: str | None) -> None:
    """Withdraw the requests of message SEQ: those asked need not answer it any more.

    Only for the agent that asked, and operators. Shows what became of each request; those that were
    answered stay so. Wakes nobody: `tail` and `read` show a notice, and `requests` no longer lists
    the request. If THREADBUS_THREAD is set, a single argument is SEQ.

    \b
    Example:
      threadbus withdraw design 12 --as coder
    """
    thread, seq = thread_and_next(thread, seq)
    if seq is None:
        raise click.UsageError("Missing SEQ: the message that asks.")
    number = valid_seq(click.INT(seq))
    async with session.connect() as bus:
        found = await bus.thread(thread).withdraw(number)
        now = await server_time(bus)
    session.out.show({"requests": request_documents(found, now)}, request_lines(found, now))


async def server_time(bus: BusClient) -> datetime | None:
    """Returns the time on the server's clock, in UTC; None if it sends none that is valid."""
    info = await bus.server_info()
    return to_utc(info.server_time)


def request_documents(requests: Iterable[Request], now: datetime | None) -> list[dict[str, Any]]:
    """Returns requests as dicts, with `overdue`. `now`: as server_time() returns it."""
    return [
        {**document(request, whole=True), "overdue": _is_overdue(request, now)}
        for request in requests
    ]


def request_lines(requests: Iterable[Request], now: datetime | None) -> Iterator[str]:
    """Yields a line for each request: thread and seq, who asks whom, how long ago, what became.

    `now`: as server_time() returns it.
    """
    rows = [
        (
            f"{safe(request.thread)} #{request.seq}",
            f"{safe(request.asker)} asks {safe(request.agent)}",
            f"{_age(request, now)} ago",
            outcome(request) or _due(request, now),
        )
        for request in requests
    ]
    return aligned(rows)


def outcome(request: Request) -> str:
    """Returns what became of a request, such as `answered in #13`; "" if it is open.

    For a state that this version does not know: `no longer open`.
    """
    states = bus_client.RequestState
    if request.state == states.REQUEST_STATE_OPEN:
        return ""
    if request.state == states.REQUEST_STATE_ANSWERED:
        return f"answered in #{request.reply_seq}"
    if request.state == states.REQUEST_STATE_WITHDRAWN:
        return "withdrawn"
    return "closed" if request.state == states.REQUEST_STATE_CLOSED else "no longer open"


def _age(request: Request, now: datetime | None) -> str:
    asked = to_utc(request.create_time)
    return UNKNOWN_TIME if asked is None or now is None else age((now - asked).total_seconds())


def _due(request: Request, now: datetime | None) -> str:
    """Returns when an open request is due: `due in 7 min`, `OVERDUE`, or "" for never."""
    if not request.HasField("due_time"):
        return ""
    due = to_utc(request.due_time)
    if due is None or now is None:
        return f"due at {UNKNOWN_TIME}"
    return "OVERDUE" if now >= due else f"due in {age((due - now).total_seconds())}"


def _is_overdue(request: Request, now: datetime | None) -> bool:
    return not outcome(request) and _due(request, now) == "OVERDUE"
