"""The questions of the demo: one is answered; the agent that is asked the other one is killed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import bus_client
from bus_client.cli.demo.lines import ANSWER, FIRST, QUESTIONS, SECOND
from bus_client.cli.session import run_concurrently

if TYPE_CHECKING:
    from bus_client.cli.demo.narration import Narrator
    from bus_client.cli.demo.processes import DemoProcess, Processes


async def ask(
    processes: Processes, narrator: Narrator, address: str, pace: float
) -> tuple[str, str]:
    """Ask the questions. Returns the claim about them, and the evidence against it: see outcome().

    Raises:
        ProcessEnded: The expert ended too early.
        BusError: The server cannot be called.
    """
    credentials = processes.folder / "credentials.json"
    expert = await processes.start(
        "expert", "bus_client.cli.demo.expert", address, credentials, pace
    )
    await expert.next_event("ready")
    async with bus_client.BusClient(address, agent="lead", credentials=credentials) as bus:
        thread = await bus.join(QUESTIONS)
        narrator.say(f"in another thread, the lead asks the expert: “{FIRST}”")
        reply = await thread.ask(FIRST, of="expert")
        narrator.say(f"ask() returns #{reply.seq}: “{reply.content}”")
        await expert.next_event("thinking")
        _, told = await run_concurrently([_kill(expert, narrator), _ask_in_vain(thread)])
        narrator.say(f"ask() raises Unanswered: {told}")
        still_open = [request.agent async for request in bus.list_requests(asker="lead")]
    found = [reply.content, told, still_open]
    return (
        "one question was answered; the other is open, and its asker knows why",
        "" if found == [ANSWER, "AGENT_LAPSED", ["expert"]] else f"it got {found}",
    )


async def _kill(expert: DemoProcess, narrator: Narrator) -> str:
    """Kill the expert once it thinks about the second question."""
    await expert.next_event("thinking")
    await expert.kill()
    narrator.say(f"“{SECOND}” kill -9 {expert.pid}: the expert dies before it answers")
    return ""


async def _ask_in_vain(thread: bus_client.ThreadHandle) -> str:
    """Ask the second question. Returns why it is not answered; empty if it is."""
    try:
        await thread.ask(SECOND, of="expert")
    except bus_client.Unanswered as unanswered:
        return unanswered.reason
    return ""
