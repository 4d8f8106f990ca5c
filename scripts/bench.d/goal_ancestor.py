"""P9: wake-ups and posts, compared to AgentChatBus."""

from pathlib import Path

import own_calls
import processes
import servers
from bench import Bench, note_failures
from disturbance import watched
from goal_wakes import woken
from posts import Posts
from results import Outcome
from tools import ANCESTOR

_NAME = f"AgentChatBus {ANCESTOR}"
_CLIENT = "client_ancestor.py"
#: Posts in flight that are tried, to find the best number for each.
_TRIED, _TRIED_THEIRS = (16, 64, 128, 256), (1, 2, 4, 16)
_PACE = 0.05  # seconds between posts that wake a wait


def measure(bench: Bench) -> Outcome:
    """Measure the wake-up latency, and the posts/s with the best number of posts in flight."""
    outcome = Outcome("P9", f"against {_NAME}")
    if bench.tools.ancestor is None:
        outcome.notes.append(f"{_NAME} is not available here.")
        return outcome
    python = bench.tools.ancestor / "python"
    with (
        bench.own_folder() as folder,
        servers.threadbus(folder) as bus,
        servers.ancestor(bench.tools.ancestor, folder) as other,
    ):
        own_calls.create_threads(bus.address, ["bench-posts"])
        posts = Posts(bench, outcome, folder, ["bench-posts"])
        theirs = _Theirs(other, python)
        bench.say("P9: the best number of posts in flight")
        seconds, count = bench.pick(0.3, 1.5), bench.pick(50, 200)
        # The best of three loads, as one that was disturbed tells nothing.
        best = max(
            _TRIED, key=lambda n: max(posts.run(bus, n, seconds).per_second for _ in range(3))
        )
        best_theirs = max(
            _TRIED_THEIRS,
            key=lambda n: max(
                theirs.post(Outcome("", ""), f"best-{n}-{at}", count, n) for at in range(3)
            ),
        )
        outcome.notes.append(f"Most posts/s with {best} in flight; of {_NAME}, with {best_theirs}.")
        for number, record in outcome.rounds(bench.rounds):
            bench.say(f"P9 round {number} of {bench.rounds}")
            thread, wakes = f"bench-{number}", bench.pick(20, 80)
            own_calls.create_threads(bus.address, [thread])
            woken(record, "ThreadBus", bus, thread=thread, count=wakes, pace=_PACE)
            theirs.wake(record, _NAME, f"{thread}-mcp", wakes, mcp=True)
            # A post through REST wakes no wait: polling finds it within a second.
            theirs.wake(record, f"{_NAME}, posted through REST", f"{thread}-rest", 20)
            with watched(record):
                load = posts.run(bus, best, bench.pick(0.5, 3.0))
                record.add("ThreadBus: posts/s", load.per_second)
                record.add("ThreadBus: server CPU µs per post", load.cpu_microseconds)
            theirs.post(record, f"{thread}-posts", bench.pick(100, 600), best_theirs)
        posts.check(bus)
    for what, goal, ratio in (
        (
            "wake-up p50, lower by",
            5,
            outcome.ratio(f"{_NAME}: wake-up p50 ms", "ThreadBus: wake-up p50 ms"),
        ),
        (
            "posts/s at the best concurrency of each, higher by",
            15,
            outcome.ratio("ThreadBus: posts/s", f"{_NAME}: posts/s"),
        ),
    ):
        outcome.judge(what, goal, ratio, at_least=True)
    failed = outcome.faults["ThreadBus"]["failed"]
    outcome.judge("failed posts", 0, [failed], at_least=False, unit="posts")
    return outcome


class _Theirs:
    """Loads of AgentChatBus, with its own clients."""

    def __init__(self, server: servers.Server, python: Path) -> None:
        self._server = server
        self._python = python

    def post(self, outcome: Outcome, topic: str, count: int, in_flight: int) -> float:
        """Post through REST to a new thread. Returns the successful posts/s."""
        thread = self._thread(topic)
        with watched(outcome):
            cpu = self._server.cpu_seconds()
            found = processes.run(
                _CLIENT,
                self._python,
                do="unary",
                address=self._server.address,
                thread=thread,
                count=count,
                concurrency=in_flight,
                size=256,
            )
            cpu = self._server.cpu_seconds() - cpu
            rate: float = (count - len(found["failed"])) / found["seconds"]
            outcome.add(f"{_NAME}: posts/s", rate)
            outcome.add(f"{_NAME}: server CPU µs per post", cpu / count * 1e6)
        outcome.count(_NAME, sent=count, lost=found["lost"], duplicated=found["duplicated"])
        note_failures(outcome, _NAME, found["failed"])
        return rate

    def wake(
        self, outcome: Outcome, name: str, topic: str, count: int, *, mcp: bool = False
    ) -> None:
        """Measure wake-ups in a new thread."""
        woken(
            outcome,
            name,
            self._server,
            thread=self._thread(topic),
            count=count,
            pace=_PACE,
            program=_CLIENT,
            python=self._python,
            mcp=mcp,
        )

    def _thread(self, topic: str) -> str:
        """Returns the id of a new thread."""
        job = {"address": self._server.address, "thread": topic}
        made: str = processes.run(_CLIENT, self._python, do="thread", **job)["thread"]
        return made
