"""An agent of the demo, run in its own process: an example of an agent that uses the SDK.

It participates in a thread until it is stopped (SIGTERM), then ends its session. If it is killed at
any time and restarted, it resumes where it left off: it misses no message and posts none twice.

For the demo, it also reports on stdout what it is doing, one JSON object per line, and delays each
reply that is marked `on_cue` until SIGUSR1.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from contextlib import aclosing
from pathlib import Path

import bus_client
from bus_client.cli.demo.lines import LINES, THREAD, Line


async def live(name: str, server: str, credentials: Path, pace: float) -> None:
    """Run the agent until SIGTERM or SIGINT.

    Args:
        name: The agent's name.
        server: The server's address.
        credentials: The file for the agent's token.
        pace: Seconds that writing a message takes.

    Raises:
        BusError: The server cannot be reached, or refused a call.
    """
    cue = asyncio.Event()
    # Registers the agent if needed, and sends heartbeats.
    async with bus_client.BusClient(server, agent=name, credentials=credentials) as bus:
        life = asyncio.create_task(_Agent(bus, pace, cue).take_part())
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, cue.set)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, life.cancel)
        await asyncio.wait([life])
        if not life.cancelled():
            life.result()  # raises the error if it failed
        await bus.end_session()


class _Agent:
    """An agent that reads messages, thinks, and replies."""

    def __init__(self, bus: bus_client.BusClient, pace: float, cue: asyncio.Event) -> None:
        self._bus = bus
        self._pace = pace
        self._cue = cue

    async def take_part(self) -> None:
        """Join the thread; reply to its newest message, if that is unread, and to each later one.

        If the thread is empty, begin the conversation. Returns when the thread is closed or the
        agent's session is ended.
        """
        thread = await self._bus.join(THREAD, start="first")
        _report(joined=thread.position.after_seq)
        if thread.info.head_seq == 0:
            await self._answer(thread, 0)
        async with aclosing(thread.follow(filter=self._filter())) as messages:
            async for message in messages:
                _report(read=message.seq)
                # Messages older than the newest at joining are only read.
                if message.seq >= thread.info.head_seq:
                    await self._answer(thread, message.seq)

    def _filter(self) -> bus_client.MessageFilter | None:
        """Returns the filter for the agent's wait: the tester gets only messages addressed to it.

        None = no filter.
        """
        if self._bus.agent == "tester":
            return bus_client.MessageFilter(addressed_to_me=True)
        return None

    async def _answer(self, thread: bus_client.ThreadHandle, seq: int) -> None:
        """Reply to message `seq`, unless another message has been posted since.

        Then reply to that reply, if the agent has more to say.
        """
        while line := self._line_after(seq):
            await self._think(line)
            try:
                posted = await thread.post(
                    line.text,
                    mentions=line.mentions,
                    # The reply is valid only if there are no newer messages.
                    expected_last_seq=seq,
                    based_on_seq=seq,
                    # If the agent is killed before it gets the response, it posts this again after
                    # its restart. With the same request_id, the message is stored only once.
                    request_id=f"{line.who}-after-{seq}",
                    include_recipients=True,
                )
            except bus_client.SeqConflict as conflict:
                _report(refused=seq, last_seq=conflict.last_seq)
                return  # take_part() reads the newer messages, and replies to them
            recipients = [(r.agent, r.presence, r.waiting) for r in posted.recipients]
            _report(posted=posted.seq, recipients=recipients)
            seq = posted.seq
            await thread.acknowledge(seq)

    def _line_after(self, seq: int) -> Line | None:
        """Returns the reply to message `seq`; None if the agent has none.

        A real agent would ask its model here.
        """
        mine = (line for line in LINES if line.who == self._bus.agent)
        return next((line for line in mine if line.after == seq), None)

    async def _think(self, line: Line) -> None:
        # Before the first line nothing was delivered, so the server cannot tell that the agent is
        # working.
        working = bus_client.Presence.PRESENCE_WORKING
        state = bus_client.Presence.PRESENCE_UNSPECIFIED if line.after else working
        await self._bus.heartbeat(state=state, status_text=f"thinking about #{line.after}")
        _report(thinking=line.after)
        if line.on_cue:
            await self._cue.wait()
            self._cue.clear()
        await asyncio.sleep(self._pace)


def _report(**event: object) -> None:
    sys.stdout.write(f"{json.dumps(event)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _, name, server, credentials, pace = sys.argv
    asyncio.run(live(name, server, Path(credentials), float(pace)))
