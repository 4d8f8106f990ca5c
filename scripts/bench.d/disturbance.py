"""Records what else the machine did during a load, and tells which rounds that disturbed.

Two figures for each load:

others   the CPU time of everything else on our cores, in cores: what /proc/stat counts as busy or
         stolen, less the benchmark, its servers, its clients and the kernel's own threads
work     the CPU time of a fixed piece of Python on the server's core, in seconds: its mean over a
         tenth of a second before the load and one after it. Compared to the fastest piece of the
         run, this shows what /proc/stat does not: another virtual machine on the same hardware,
         or a lower clock. Where it comes and goes within a load, this is only a sample

Neither shows a slow disk; P2 measures the disk itself.
"""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

import machine
from results import Outcome

#: Of one core: a load during which everything else used more was disturbed.
OTHERS = 0.15
#: Seconds of others' CPU time that do not count: /proc counts in hundredths of a second.
_UNCERTAIN = 0.05
#: A load around which the piece of Python took more than this many times its fastest.
SLOWER = 1.25

_SAMPLE = 0.1  # seconds


@contextlib.contextmanager
def watched(outcome: Outcome) -> Iterator[None]:
    """Record the disturbance of one load; figures added in this context are of that load."""
    pieces = _pieces()
    with outcome.load() as load:
        busy, own = machine.busy_seconds(), machine.own_seconds()
        began = time.monotonic()
        yield
        elapsed = time.monotonic() - began
        spent = machine.busy_seconds() - busy - (machine.own_seconds() - own) - _UNCERTAIN
        load["others"] = max(spent, 0.0) / elapsed
        pieces += _pieces()
        load["work"], load["fastest"] = fmean(pieces), min(pieces)


def judge(outcomes: Sequence[dict[str, Any]]) -> None:
    """Tell which loads of a run were disturbed, and so which rounds and values.

    Sets `disturbed` of each load; `rounds` of each outcome: the number of rounds, and of those with
    a disturbed load; and its `disturbed`: figure → how many of its values are of disturbed loads.
    """
    fastest = min((load["fastest"] for each in outcomes for load in each["loads"]), default=0.0)
    for outcome in outcomes:
        loads = outcome["loads"]
        for load in loads:
            load["slower"] = load["work"] / fastest
            load["disturbed"] = load["others"] > OTHERS or load["slower"] > SLOWER
        rounds = {load["round"] for load in loads if load["round"]}
        outcome["rounds"] = {
            "measured": len(rounds),
            "disturbed": len({load["round"] for load in loads if load["disturbed"]} - {0}),
        }
        outcome["disturbed"] = {
            figure: sum(at is not None and loads[at]["disturbed"] for at in places)
            for figure, places in outcome["measured_in"].items()
        }


def rounds(outcome: Mapping[str, Any]) -> str:
    """Returns how many rounds of a goal were disturbed, for example `2 of 5`."""
    return f"{outcome['rounds']['disturbed']} of {outcome['rounds']['measured']}"


def _pieces() -> list[float]:
    """Returns the CPU time of each piece of Python in a sample on the server's core."""
    found: list[float] = []
    with machine.on_cores(machine.SERVER_CORES):
        until = time.monotonic() + _SAMPLE
        while not found or time.monotonic() < until:
            found.append(_piece())
    return found


def _piece() -> float:
    # Not the elapsed time: our own server may still be finishing the last load on that core.
    began = time.thread_time()
    table: dict[int, str] = {}
    for number in range(20_000):
        table[number % 1_000] = str(number)
    return time.thread_time() - began
