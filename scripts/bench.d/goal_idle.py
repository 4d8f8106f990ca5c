"""P6: ten thousand idle waits."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

import own_calls
import processes
import servers
from bench import Bench
from results import Outcome

_THREADS = [f"bench-{number}" for number in range(100)]
_PROCESSES = 4


def measure(bench: Bench) -> Outcome:
    """Measure the memory per wait beyond the floor's, the CPU time, and the SQL statements."""
    waits, window = bench.pick(2_000, 10_000), bench.pick(5.0, 90.0)
    outcome = Outcome("P6", f"{waits:,} idle waits, opened at once")
    if bench.quick:
        outcome.notes.append(
            "The goal is for 10,000 waits over 90 s, in which each gets keepalives."
        )
    for number in range(bench.pick(1, 2)):
        bench.say(f"P6 round {number + 1}: memory")
        steps = bench.pick((waits,), (1_000, 2_500, 5_000, waits))
        floor = _memory(bench, outcome, "floor", steps)
        bus = _memory(bench, outcome, "ThreadBus", steps)
        outcome.add("floor: bytes per stream", floor)
        outcome.add("ThreadBus: bytes per wait", bus)
        outcome.add("ThreadBus: KiB per wait beyond the floor's stream", (bus - floor) / 1024)
    bench.say(f"P6: {window:g} s of waiting")
    _hold(bench, outcome, waits, window)
    bench.say("P6: statements")
    _statements(bench, outcome, min(waits, 1_000))
    for what, goal, name, unit in (
        ("waits refused", 0, "ThreadBus: waits refused", "waits"),
        (
            "KiB per wait beyond the floor's",
            4,
            "ThreadBus: KiB per wait beyond the floor's stream",
            "KiB",
        ),
        ("CPU, of one core", 3, "ThreadBus: % of a core", "%"),
        (
            "statements besides the fallback's",
            0,
            "ThreadBus: statements besides the fallback's",
            "",
        ),
    ):
        outcome.judge(what, goal, outcome.figures.get(name, []), at_least=False, unit=unit)
    return outcome


@contextlib.contextmanager
def _open(
    server: servers.Server, waits: int, *, floor: bool
) -> Iterator[tuple[list[dict[str, Any]], list[processes.Client]]]:
    """Open waits from several processes at once. Yields what each reported, and the processes."""
    with contextlib.ExitStack() as running:
        each = [
            running.enter_context(
                processes.client(
                    "client_waits.py",
                    do="idle",
                    address=server.address,
                    waits=waits * (number + 1) // _PROCESSES - waits * number // _PROCESSES,
                    threads=_THREADS,
                    floor=floor,
                )
            )
            for number in range(_PROCESSES)
        ]
        yield [client.ready() for client in each], each


def _memory(bench: Bench, outcome: Outcome, name: str, steps: Sequence[int]) -> float:
    """Returns the bytes per wait, from the last step. Each step has a new server."""
    per_wait = 0.0
    for waits in steps:
        with bench.own_folder() as folder:
            start = servers.floor(folder) if name == "floor" else servers.threadbus(folder)
            with start as server:
                if name != "floor":
                    own_calls.create_threads(server.address, _THREADS)
                # The first streams allocate what all streams share.
                with _open(server, 100, floor=name == "floor"):
                    before = server.resident_bytes()
                with _open(server, waits, floor=name == "floor") as (said, _):
                    used = server.resident_bytes() - before
                if name != "floor":
                    refused = waits - sum(each["open"] for each in said)
                    outcome.add("ThreadBus: waits refused", refused)
                    outcome.count("ThreadBus", sent=waits, failed=refused)
        outcome.series.setdefault("memory", {}).setdefault(name, []).append((waits, used))
        per_wait = used / waits
    return per_wait


def _hold(bench: Bench, outcome: Outcome, waits: int, window: float) -> None:
    """Measure the CPU that a server with idle waits uses."""
    with bench.own_folder() as folder, servers.threadbus(folder) as server:
        own_calls.create_threads(server.address, _THREADS)
        with _open(server, waits, floor=False) as (_, each):
            time.sleep(2.0)  # let the work left by opening them finish
            cpu, began = server.cpu_seconds(), time.monotonic()
            time.sleep(window)
            cpu, elapsed = server.cpu_seconds() - cpu, time.monotonic() - began
            broken = sum(client.result()["broken"] for client in each)
        outcome.add("ThreadBus: % of a core", cpu / elapsed * 100)
        outcome.count("ThreadBus", failed=broken)


def _statements(bench: Bench, outcome: Outcome, waits: int) -> None:
    """Count the SQL statements of an idle server. Uses a separate server, as logging costs time."""
    with (
        bench.own_folder() as folder,
        servers.threadbus(folder, "--log-level", "debug") as server,
    ):
        own_calls.create_threads(server.address, _THREADS)
        with _open(server, waits, floor=False):
            time.sleep(3.0)  # wait for the last checkpoint of presence
            before = len(statements(server))
            time.sleep(5.0)
            found = statements(server)[before:]
    others = [statement for statement in found if statement != "PRAGMA data_version"]
    outcome.add("ThreadBus: statements besides the fallback's", len(others))
    if others:
        outcome.notes.append(f'Such as "{others[0][:100]}".')


def statements(server: servers.Server) -> list[str]:
    """Returns the statements that a server has logged so far."""
    lines = server.log.read_text("utf-8").splitlines()
    return [line.partition(" sql: ")[2] for line in lines if " sql: " in line]
