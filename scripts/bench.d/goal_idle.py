"""P6: ten thousand idle waits."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import own_calls
import processes
import servers
from bench import Bench, note_failures
from disturbance import watched
from results import Outcome

_THREADS = [f"bench-{number}" for number in range(100)]
_PROCESSES = 4


def measure(bench: Bench) -> Outcome:
    """Measure the memory per wait beyond the floor's, the CPU time, and the SQL statements."""
    waits, window = bench.pick(2_000, 10_000), bench.pick(5.0, 60.0)
    outcome = Outcome("P6", f"{waits:,} idle waits, opened at once")
    if bench.quick:
        outcome.notes.append(
            "The goal is for 10,000 waits over 60 s, in which each gets keepalives."
        )
    for number, record in outcome.rounds(bench.pick(1, 2), warm_up=False):
        bench.say(f"P6 round {number}")
        for few in bench.pick((), (1_000, 3_000)):
            for name in ("floor", "ThreadBus"):
                _idle(bench, record, name, few)
        with watched(record):
            floor = _idle(bench, record, "floor", waits)
            bus = _idle(bench, record, "ThreadBus", waits, window)
            record.add("floor: bytes per stream", floor)
            record.add("ThreadBus: bytes per wait", bus)
            record.add("ThreadBus: KiB per wait beyond the floor's stream", (bus - floor) / 1024)
    bench.say("P6: statements")
    _statements(bench, outcome, min(waits, 1_000))
    for what, goal, name, unit in (
        ("waits refused", 0, "ThreadBus: waits refused", "waits"),
        (
            "KiB per wait over the floor's stream",
            4,
            "ThreadBus: KiB per wait beyond the floor's stream",
            "KiB",
        ),
        ("CPU of one core, keepalives included", 3, "ThreadBus: % of a core", "%"),
        (
            "database statements but the fallback's",
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


def _idle(bench: Bench, outcome: Outcome, name: str, waits: int, window: float = 0.0) -> float:
    """Returns the bytes per wait of a new server. With a window: measures its CPU time, too."""
    with bench.own_folder() as folder:
        start = servers.floor(folder) if name == "floor" else servers.threadbus(folder)
        with start as server:
            if name != "floor":
                own_calls.create_threads(server.address, _THREADS)
            # The first streams allocate what all streams share.
            with _open(server, 100, floor=name == "floor"):
                before = server.resident_bytes()
            with _open(server, waits, floor=name == "floor") as (said, each):
                used = server.resident_bytes() - before
                if window:
                    time.sleep(2.0)  # let the work left by opening them finish
                    cpu, began = server.cpu_seconds(), time.monotonic()
                    time.sleep(window)
                    cpu, elapsed = server.cpu_seconds() - cpu, time.monotonic() - began
                    outcome.add(f"{name}: % of a core", cpu / elapsed * 100)
                broken = sum(client.result()["broken"] for client in each)
    opened = sum(one["open"] for one in said)
    reasons = [reason for one in said for reason, n in one["refused"].items() for _ in range(n)]
    outcome.add(f"{name}: waits refused", waits - opened)
    outcome.count(name, sent=waits)
    note_failures(outcome, name, reasons + ["broken"] * broken)
    outcome.series.setdefault("memory", {}).setdefault(name, []).append((opened, used))
    return used / opened


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
