"""P7: the number of transactions while five thousand agents send heartbeats."""

import time
from typing import Any

import processes
import servers
from bench import Bench, note_failures
from disturbance import watched
from goal_idle import statements
from results import Outcome

_CHECKPOINT_INTERVAL = 2.0  # seconds, the server's default


def measure(bench: Bench) -> Outcome:
    """Measure the transactions per checkpoint interval while all agents send heartbeats."""
    agents, window = bench.pick(500, 5_000), bench.pick(6.0, 40.0)
    outcome = Outcome("P7", f"{agents:,} agents sending heartbeats")
    if bench.quick:
        outcome.notes.append("The goal is for 5,000 agents, each with one heartbeat in 40 s.")
    with (
        bench.own_folder() as folder,
        servers.threadbus(folder, "--log-level", "debug") as server,
        processes.client(
            "client_agents.py", address=server.address, agents=agents, seconds=window
        ) as client,
    ):
        bench.say(f"P7: {agents:,} agents are being registered")
        client.ready()
        for _, record in outcome.rounds(1, warm_up=False):
            found = _beats(record, server, client, agents)
    note_failures(outcome, "ThreadBus", found["failed"])
    outcome.count("ThreadBus", sent=agents)
    outcome.judge(
        "transactions per checkpoint interval",
        1,
        outcome.figures["ThreadBus: transactions per checkpoint interval"],
        at_least=False,
        unit="",
    )
    return outcome


def _beats(
    outcome: Outcome, server: servers.Server, client: processes.Client, agents: int
) -> dict[str, Any]:
    """Returns the client's result, when all agents have sent their heartbeats."""
    with watched(outcome):
        before, began = _commits(server), time.monotonic()
        cpu = server.cpu_seconds()
        found = client.result()
        elapsed = time.monotonic() - began
        cpu = server.cpu_seconds() - cpu
        commits = _commits(server) - before
        outcome.add("ThreadBus: heartbeats/s", agents / elapsed)
        outcome.add("ThreadBus: server CPU µs per heartbeat, logging", cpu / agents * 1e6)
        # The maximum number of checkpoints in this time.
        intervals = int(elapsed / _CHECKPOINT_INTERVAL) + 1
        outcome.add("ThreadBus: transactions per checkpoint interval", commits / intervals)
    return found


def _commits(server: servers.Server) -> int:
    return sum(statement == "COMMIT" for statement in statements(server))
