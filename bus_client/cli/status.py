"""`threadbus status`, and reading the status of a server."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

import bus_client
from bus_client.cli.documents import document
from bus_client.cli.failures import UNREACHABLE
from bus_client.cli.options import Duration, timeout_option
from bus_client.cli.session import Session, on_server
from bus_client.cli.status_lines import status_lines

if TYPE_CHECKING:
    from bus_client import BusClient
    from threadbus.v1.admin_service_pb2 import GetStatusResponse

F = TypeVar("F", bound=Callable[..., Any])


def window_option(default: float) -> Callable[[F], F]:
    """Returns a decorator that adds the option --window, in seconds."""
    return click.option(
        "--window",
        metavar="TIME",
        type=Duration(1, 300),
        default=default,
        help="Rates and latencies are of the last TIME: 1s to 5m.",
    )


@click.command()
@window_option(60.0)
@timeout_option
@on_server
async def status(session: Session, window: float) -> int:
    """Show how a server does: rates, latencies, waits, agents, requests, queue and sizes.

    For operators; on the server's machine and without `--auth required`, for everybody. With
    several servers on a store, it is about the one that --server names; agents, requests, threads
    and sizes are those of the store. docs/operations.md explains the figures, and `threadbus top`
    shows them live.

    Exit code 4: the store fails, or the server cannot be reached.

    \b
    Examples:
      threadbus status --window 5m
      threadbus status --json --token-file threadbus.db.operator-token | jq .wake.p99
    """
    async with session.connect() as bus:
        found = await read_status(bus, window)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    lines = status_lines(found, session.server, width=width, colour=session.out.colour)
    session.out.show(document(found, whole=True), lines)
    return UNREACHABLE if found.store_failing else 0


async def read_status(bus: BusClient, window: float) -> GetStatusResponse:
    """Returns the status of the server. `window`: as for BusClient.status().

    Raises:
        BusError: The call failed. If the server is too old for it, the error says so.
    """
    try:
        return await bus.status(window=window)
    except bus_client.BusError as error:
        if error.code == "UNIMPLEMENTED":
            error.message = "The server is older than this program, and does not tell its status."
            error.hint = "Upgrade the server; threadbus doctor shows both versions."
        elif isinstance(error, bus_client.AccessDenied):
            error.hint = "Pass an operator's token, with --token-file or in THREADBUS_TOKEN."
        raise
