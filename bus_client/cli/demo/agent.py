"""One agent of the demo, a process of its own: an example of an agent that uses the SDK.

It takes part in a thread until it is stopped (SIGTERM), then says goodbye. Killed at any moment
and started again, it goes on where it was: it misses nothing, and says nothing twice.

For the demo it also tells on stdout what it does, one JSON object a line; and a line that is said
on cue takes until SIGUSR1.
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
    """Takes part until SIGTERM. It takes `pace` seconds to write a message."""
    cue = asyncio.Event()
    # Registers the agent, or finds it registered, and tells others that it is alive.
    async with bus_client.BusClient(server, agent=name, credentials=credentials) as bus:
        life = asyncio.create_task(_Agent(bus, pace, cue).take_part())
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, cue.set)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, life.cancel)
        await asyncio.wait([life])
        if not life.cancelled():
            life.result()  # raises what it failed with
        await bus.end_session()


class _Agent:
    """Reads, thinks, answers."""

    def __init__(self, bus: bus_client.BusClient, pace: float, cue: asyncio.Event) -> None:
        self._bus = bus
        self._pace = pace
        self._cue = cue

    async def take_part(self) -> None:
        """Reads what it has not read yet and then what comes, and answers it."""
        thread = await self._bus.join(THREAD, start="first")
        _tell(joined=thread.position.after_seq)
        if thread.info.head_seq == 0:
            await self._answer(thread, 0)
        async with aclosing(thread.follow(filter=self._filter())) as messages:
            async for message in messages:
                _tell(read=message.seq)
                if message.seq >= thread.info.head_seq:  # else more was said while it was away
                    await self._answer(thread, message.seq)

    def _filter(self) -> bus_client.MessageFilter | None:
        """The tester sleeps until somebody means it."""
        if self._bus.agent == "tester":
            return bus_client.MessageFilter(addressed_to_me=True)
        return None

    async def _answer(self, thread: bus_client.ThreadHandle, seq: int) -> None:
        """Says what there is to say after message `seq`, if nobody else said anything since."""
        while line := self._line_after(seq):
            await self._think(line)
            try:
                posted = await thread.post(
                    line.text,
                    mentions=line.mentions,
                    # What was thought over the messages up to here holds only if they are all.
                    expected_last_seq=seq,
                    based_on_seq=seq,
                    # Should it be killed before it knows that this was posted, it will post it
                    # again: the same id keeps it from being there twice.
                    request_id=f"{line.who}-after-{seq}",
                    include_recipients=True,
                )
            except bus_client.SeqConflict as conflict:
                _tell(refused=seq, last_seq=conflict.last_seq)
                return  # the loop reads what was said meanwhile, and it thinks anew
            recipients = [(r.agent, r.presence, r.waiting) for r in posted.recipients]
            _tell(posted=posted.seq, recipients=recipients)
            seq = posted.seq
            await thread.acknowledge(seq)

    def _line_after(self, seq: int) -> Line | None:
        """Here your agent asks its model."""
        mine = (line for line in LINES if line.who == self._bus.agent)
        return next((line for line in mine if line.after == seq), None)

    async def _think(self, line: Line) -> None:
        # The first line is nobody's answer, so the bus cannot know by itself that it is at work.
        working = bus_client.Presence.PRESENCE_WORKING
        state = bus_client.Presence.PRESENCE_UNSPECIFIED if line.after else working
        await self._bus.heartbeat(state=state, status_text=f"thinking about #{line.after}")
        _tell(thinking=line.after)
        if line.on_cue:
            await self._cue.wait()
            self._cue.clear()
        await asyncio.sleep(self._pace)


def _tell(**event: object) -> None:
    sys.stdout.write(f"{json.dumps(event)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _, name, server, credentials, pace = sys.argv
    asyncio.run(live(name, server, Path(credentials), float(pace)))
