"""P9: wake-ups and posts, compared to AgentChatBus."""

from pathlib import Path

import ghz
import own_calls
import processes
import servers
from bench import Bench, note_failures
from goal_wakes import woken
from results import Outcome
from tools import ANCESTOR

_NAME = f"AgentChatBus {ANCESTOR}"
_CLIENT = "client_ancestor.py"
_IN_FLIGHT = 16
_PACE = 0.05  # seconds between posts that wake a wait


def measure(bench: Bench) -> Outcome:
    """Measure the wake-up latency and the posts/s with 16 in flight of both."""
    outcome = Outcome("P9", f"against {_NAME}, 16 in flight")
    wakes, posts = bench.pick((50, 150), (200, 1_000))
    if bench.tools.ancestor is None:
        outcome.notes.append(f"{_NAME} is not available here.")
        return outcome
    python = bench.tools.ancestor / "python"
    with (
        bench.own_folder() as folder,
        servers.threadbus(folder) as bus,
        servers.ancestor(bench.tools.ancestor, folder) as other,
    ):
        for number in range(-1, bench.pick(1, 3)):  # the first round warms up
            record = outcome if number >= 0 else Outcome("", "")
            bench.say(f"P9 round {number + 1}")
            for kind in ("wake", "posts", "REST"):
                thread = f"bench-{kind}-{number + 1}"
                own_calls.create_threads(bus.address, [thread])
                theirs = processes.run(
                    _CLIENT, python, do="thread", address=other.address, thread=thread
                )["thread"]
                job = {"program": _CLIENT, "python": python, "pace": _PACE, "thread": theirs}
                if kind == "wake":
                    woken(record, "ThreadBus", bus, thread=thread, count=wakes, pace=_PACE)
                    woken(record, _NAME, other, count=wakes, mcp=True, **job)
                elif kind == "posts":
                    _post(bench, record, bus, folder, thread, posts * 5)
                    _post_theirs(record, other, theirs, posts, python)
                else:  # a post through REST wakes no wait: polling finds it within a second
                    woken(record, f"{_NAME}, posted through REST", other, count=20, **job)
    outcome.judge(
        "wake-up p50, lower by",
        15,
        outcome.ratio(f"{_NAME}: wake-up p50 ms", "ThreadBus: wake-up p50 ms"),
        at_least=True,
    )
    outcome.judge(
        "posts/s, higher by",
        15,
        outcome.ratio("ThreadBus: posts/s", f"{_NAME}: posts/s"),
        at_least=True,
    )
    failed = outcome.faults["ThreadBus"]["failed"]
    outcome.judge("failed posts", 0, [failed], at_least=False, unit="posts")
    return outcome


def _post(
    bench: Bench, outcome: Outcome, bus: servers.Server, folder: Path, thread: str, count: int
) -> None:
    load = ghz.post(
        bench.tools.ghz,
        bus,
        folder=folder,
        threads=[thread],
        sizes=[256],
        count=count,
        concurrency=_IN_FLIGHT,
    )
    outcome.add("ThreadBus: posts/s", load.per_second)
    note_failures(outcome, "ThreadBus", load.failed)
    good = count - len(load.failed)
    stored = own_calls.messages_in(bus.address, [thread])
    outcome.count(
        "ThreadBus", sent=count, lost=max(good - stored, 0), duplicated=max(stored - good, 0)
    )


def _post_theirs(
    outcome: Outcome, server: servers.Server, thread: str, count: int, python: Path
) -> None:
    found = processes.run(
        _CLIENT,
        python,
        do="unary",
        address=server.address,
        thread=thread,
        count=count,
        concurrency=_IN_FLIGHT,
        size=256,
    )
    outcome.add(f"{_NAME}: posts/s", (count - len(found["failed"])) / found["seconds"])
    outcome.count(_NAME, sent=count, lost=found["lost"], duplicated=found["duplicated"])
    note_failures(outcome, _NAME, found["failed"])
