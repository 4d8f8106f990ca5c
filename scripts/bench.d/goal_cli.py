"""P10: the run time of commands."""

import os
import subprocess
import sys
import time
from pathlib import Path

import machine
import servers
from bench import Bench
from disturbance import watched
from results import Outcome

_THREADBUS = str(Path(sys.executable).parent / "threadbus")


def measure(bench: Bench) -> Outcome:
    """Measure `threadbus --help`, and the first post of a new agent."""
    outcome = Outcome("P10", "the command line, cold start")
    with bench.own_folder() as folder, servers.threadbus(folder) as bus:
        for number, record in outcome.rounds(bench.pick(5, 20)):
            own = folder / f"home-{number}"
            environment = {"THREADBUS_SERVER": bus.address, "XDG_DATA_HOME": str(own)}
            post = ["post", f"bench-{number}", "hello", "--as", f"bench-{number}"]
            with watched(record):
                record.add("threadbus --help: ms", _took(["--help"], environment))
                record.add("threadbus post: ms", _took(post, environment))
            record.count("ThreadBus", sent=1)
    for what, name, goal in (
        ("threadbus --help", "threadbus --help: ms", 150),
        ("first post", "threadbus post: ms", 400),
    ):
        outcome.judge(what, goal, outcome.figures[name], at_least=False, unit="ms")
    return outcome


def _took(arguments: list[str], environment: dict[str, str]) -> float:
    kept = {name: value for name, value in os.environ.items() if "THREADBUS" not in name}
    began = time.monotonic()
    with machine.on_cores(machine.CLIENT_CORES):
        subprocess.run(
            [_THREADBUS, *arguments],
            env=kept | environment,
            stdout=subprocess.DEVNULL,
            timeout=60,
            check=True,
        )
    return (time.monotonic() - began) * 1e3
