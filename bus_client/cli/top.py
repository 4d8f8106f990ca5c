"""`threadbus top`."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import click

import bus_client
from bus_client.cli import failures
from bus_client.cli.documents import document
from bus_client.cli.options import Duration, timeout_option
from bus_client.cli.output import stop_when_stdout_closes
from bus_client.cli.people import age
from bus_client.cli.screen import Screen, is_screen
from bus_client.cli.session import Session, on_server
from bus_client.cli.status import read_status, window_option
from bus_client.cli.status_lines import status_lines

if TYPE_CHECKING:
    from bus_client import BusClient
    from threadbus.v1.admin_service_pb2 import GetStatusResponse

_LATE = 2.0  # seconds that an answer may take beyond the interval
_TICK = 1.0  # seconds between two drawings without an answer


@click.command()
@click.option(
    "--interval",
    metavar="TIME",
    type=Duration(0.1, 3_600),
    default=1.0,
    help="How often to refresh the figures.",
)
@window_option(10.0)
@timeout_option
@on_server
async def top(session: Session, interval: float, window: float) -> int:
    """Show live how a server does, as `threadbus status` shows it once, until q or Ctrl-C.

    Goes on through restarts of the server. If the output is no terminal, or with --json, each
    status is printed after the other, as `top -b` does; with --json as one line.

    \b
    Examples:
      threadbus top
      threadbus top --interval 10 --window 1m >>status.log
    """
    async with session.connect() as bus:
        if session.out.json or not is_screen():
            with stop_when_stdout_closes():
                await _print(session, bus, interval, window)
        else:
            await _View(session, bus, interval, window).run()
    return 0


async def _print(session: Session, bus: BusClient, interval: float, window: float) -> None:
    """Print a status after the other until cancelled; on stderr, when they are missing."""
    missing = False
    while True:
        try:
            status = await read_status(bus, window)
        except bus_client.Unavailable as error:
            if isinstance(error, bus_client.TlsFailed):
                raise
            if not missing:
                failures.report(error, json=session.out.json, hint="top keeps trying.")
            missing = True
        else:
            missing = False
            lines = [*status_lines(status, session.server), ""]
            session.out.show(document(status, whole=True), lines)
        await asyncio.sleep(interval)


class _View:
    """The newest status, on a screen.

    Args:
        session: Where the figures come from, and whether they are coloured.
        bus: The client to read them with.
        interval: Seconds between two reads.
        window: As for BusClient.status().
    """

    def __init__(self, session: Session, bus: BusClient, interval: float, window: float) -> None:
        self._session = session
        self._bus = bus
        self._interval = interval
        self._window = window
        self._status: GetStatusResponse | None = None
        self._read_at = asyncio.get_running_loop().time()  # of the last status, or the start
        self._screen = Screen(self._draw)

    async def run(self) -> None:
        """Show it until the user quits.

        Raises:
            BusError: The server refuses to tell its status.
            OSError: The terminal is gone.
        """
        parts: list[Coroutine[Any, Any, object]] = [
            self._screen.quit.wait(),
            self._read(),
            self._tick(),
        ]
        with self._screen:
            tasks = [asyncio.create_task(part) for part in parts]
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()

    async def _read(self) -> None:
        """Read the status again and again, whatever happens to the connection."""
        while True:
            try:
                self._status = await read_status(self._bus, self._window)
            except bus_client.TlsFailed:
                raise
            except bus_client.Unavailable:
                pass  # the server may be back soon: _draw() tells since when it is away
            else:
                self._read_at = asyncio.get_running_loop().time()
                self._draw()
            await asyncio.sleep(self._interval)

    async def _tick(self) -> None:
        """Draw what is known while no answer comes."""
        while True:
            await asyncio.sleep(_TICK)
            if self._silence() > self._interval + _LATE:
                self._draw()

    def _silence(self) -> float:
        """Returns the seconds since the last answer."""
        return asyncio.get_running_loop().time() - self._read_at

    def _draw(self) -> None:
        late = self._silence() > self._interval + _LATE
        alarm = f"unreachable for {age(self._silence())}, retrying" if late else ""
        if self._status is None:
            lines = [f"{self._session.server} · {alarm or 'connecting'}"]
        else:
            lines = [
                *status_lines(
                    self._status,
                    self._session.server,
                    alarm=alarm,
                    width=self._screen.columns,
                    colour=self._session.out.colour,
                )
            ]
        self._screen.draw(lines)
