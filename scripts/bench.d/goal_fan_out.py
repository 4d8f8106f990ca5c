"""P5: one post to a thousand waits, against the floor's stream writes to one reader."""

import own_calls
import processes
import servers
from bench import Bench, note_failures
from results import Outcome, median, percentile

_WAITS = 1_000


def measure(bench: Bench) -> Outcome:
    """Deliveries/s, from the post to the last wait that has it, and frames/s of the floor."""
    outcome = Outcome("P5", f"one post to {_WAITS:,} waits")
    posts, frames = bench.pick(8, 40), bench.pick(10_000, 50_000)
    with (
        bench.own_folder() as folder,
        servers.floor(folder) as floor,
        servers.threadbus(folder) as bus,
    ):
        for number in range(-1, bench.rounds):  # the first one warms up
            told = outcome if number >= 0 else Outcome("", "")
            bench.say(f"P5 round {number + 1} of {bench.rounds}")
            found = processes.run(
                "client_waits.py", do="frames", address=floor.address, count=frames, size=256
            )
            told.add("floor, one reader: frames/s", found["got"] / found["seconds"])
            _fan_out(told, bus, f"bench-{number + 1}", posts, pace=bench.pick(0.2, 0.15))
    outcome.judge(
        "deliveries/s, of the floor's frames/s to one reader",
        1.5,
        outcome.ratio("ThreadBus: deliveries/s", "floor, one reader: frames/s"),
        at_least=True,
    )
    return outcome


def _fan_out(
    outcome: Outcome, bus: servers.Server, thread: str, posts: int, *, pace: float
) -> None:
    own_calls.create_threads(bus.address, [thread])
    job = {"address": bus.address, "thread": thread, "count": posts}
    waiting = processes.client(
        "client_waits.py", do="wait", waits=_WAITS, seconds=posts * pace * 4, **job
    )
    with waiting:
        waiting.ready()
        cpu = bus.cpu_seconds()
        posted = processes.run("client_posts.py", do="unary", pace=pace, size=256, **job)
        got = waiting.result()
        cpu = bus.cpu_seconds() - cpu
    note_failures(outcome, "ThreadBus", posted["failed"])
    outcome.count("ThreadBus", sent=posts * _WAITS, lost=got["lost"], duplicated=got["duplicated"])
    pairs = zip(posted["began"], got["arrived"], strict=True)
    taken = [arrived - began for began, arrived in pairs if arrived]
    outcome.add("ThreadBus: deliveries/s", _WAITS / median(taken))
    outcome.add("ThreadBus: until the last has it, p50 ms", median(taken) * 1e3)
    outcome.add("ThreadBus: until the last has it, p99 ms", percentile(taken, 99) * 1e3)
    outcome.add("ThreadBus: deliveries per second of server CPU", _WAITS * posts / cpu)
