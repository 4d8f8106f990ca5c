"""P5: one post to a thousand waits, compared to the floor's stream writes to one reader."""

import own_calls
import processes
import servers
from bench import Bench, note_failures
from results import Outcome, median, percentile

_WAITS = 1_000


def measure(bench: Bench) -> Outcome:
    """Measure deliveries/s, until the last wait has the message, and the floor's frames/s.

    The floor's own fan-out is an upper bound: its frames are prepared, and it has no other work.
    """
    outcome = Outcome("P5", f"one post to {_WAITS:,} waits")
    posts, frames = bench.pick(8, 40), bench.pick(10_000, 50_000)
    with (
        bench.own_folder() as folder,
        servers.floor(folder) as floor,
        servers.threadbus(folder) as bus,
    ):
        for number in range(-1, bench.rounds):  # the first round warms up
            record = outcome if number >= 0 else Outcome("", "")
            bench.say(f"P5 round {number + 1} of {bench.rounds}")
            found = processes.run(
                "client_waits.py", do="frames", address=floor.address, count=frames, size=256
            )
            record.add("floor, one reader: frames/s", found["got"] / found["seconds"])
            thread, pace = f"bench-{number + 1}", bench.pick(0.2, 0.15)
            own_calls.create_threads(bus.address, [thread])
            for name, server in (("floor", floor), ("ThreadBus", bus)):
                _fan_out(record, name, server, thread, posts, pace=pace)
    outcome.judge(
        "deliveries/s, relative to the floor's frames/s to one reader",
        1.5,
        outcome.ratio("ThreadBus: deliveries/s", "floor, one reader: frames/s"),
        at_least=True,
    )
    outcome.judge(
        "deliveries/s, relative to the floor's own fan-out",
        0.75,
        outcome.ratio("ThreadBus: deliveries/s", "floor: deliveries/s"),
        at_least=True,
    )
    return outcome


def _fan_out(
    outcome: Outcome, name: str, server: servers.Server, thread: str, posts: int, *, pace: float
) -> None:
    job = {"address": server.address, "thread": thread, "count": posts}
    waiting = processes.client(
        "client_waits.py",
        do="wait",
        waits=_WAITS,
        seconds=posts * pace * 4,
        follow=name != "floor",
        **job,
    )
    with waiting:
        waiting.ready()
        cpu = server.cpu_seconds()
        posted = processes.run("client_posts.py", do="unary", pace=pace, size=256, **job)
        got = waiting.result()
        cpu = server.cpu_seconds() - cpu
    note_failures(outcome, name, posted["failed"])
    outcome.count(name, sent=posts * _WAITS, lost=got["lost"], duplicated=got["duplicated"])
    pairs = zip(posted["began"], got["arrived"], strict=True)
    taken = [arrived - began for began, arrived in pairs if arrived]
    outcome.add(f"{name}: deliveries/s", _WAITS / median(taken))
    outcome.add(f"{name}: until the last wait has it, p50 ms", median(taken) * 1e3)
    outcome.add(f"{name}: until the last wait has it, p99 ms", percentile(taken, 99) * 1e3)
    outcome.add(f"{name}: deliveries per second of server CPU", _WAITS * posts / cpu)
