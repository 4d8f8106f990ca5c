"""S1: the time from a post's response to the wake-up of a wait at another server on the file."""

import contextlib

import own_calls
import processes
import servers
from bench import Bench, note_failures
from disturbance import watched
from goal_wakes import PACE
from results import Outcome, percentile

_GOAL = 1.0  # ms


def measure(bench: Bench) -> Outcome:
    """Measure the p50 and p99 of wake-ups at the same server and at another, after the response."""
    outcome = Outcome("S1", "wake-up at another server on the file")
    count = bench.pick(150, 800)
    with contextlib.ExitStack() as running:
        folders = [running.enter_context(bench.own_folder()) for _ in range(2)]
        db = folders[0] / "threadbus.db"
        here, there = (running.enter_context(servers.threadbus(each, db=db)) for each in folders)
        for number, record in outcome.rounds(bench.rounds):
            bench.say(f"S1 round {number} of {bench.rounds}")
            for name, waiter in (("same server", here), ("another server", there)):
                thread = f"bench-{number}-{name[0]}"
                own_calls.create_threads(here.address, [thread])
                after = after_response(record, here, waiter, thread, count)
                for part in (50, 99):
                    record.add(f"{name}: after the response, p{part} ms", percentile(after, part))
    later = outcome.figures["another server: after the response, p50 ms"]
    outcome.judge("p50 after the post's response", _GOAL, later, at_least=False, unit="ms")
    return outcome


def after_response(
    outcome: Outcome, here: servers.Server, there: servers.Server, thread: str, count: int
) -> list[float]:
    """Returns how long after each post's response a wait at `there` had its message, in ms.

    Negative where the wait had it first.
    """
    job = {"thread": thread, "count": count}
    seconds = min(count * PACE * 4, 150)
    waiting = processes.client(
        "client_waits.py",
        do="wait",
        waits=1,
        seconds=seconds,
        follow=True,
        address=there.address,
        **job,
    )
    with waiting, watched(outcome):
        waiting.ready()
        posted = processes.run(
            "client_posts.py", do="unary", pace=PACE, size=256, address=here.address, **job
        )
        got = waiting.result()
    note_failures(outcome, "ThreadBus", posted["failed"])
    outcome.count("ThreadBus", sent=count, lost=got["lost"], duplicated=got["duplicated"])
    times = zip(posted["began"], posted["taken"], got["arrived"], strict=True)
    return [(arrived - began - taken) * 1e3 for began, taken, arrived in times if arrived]
