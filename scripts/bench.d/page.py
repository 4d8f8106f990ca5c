"""Writes docs/performance.md from the results of a run."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import plots

_INTRO = """\
# Performance

ThreadBus compared to a bare gRPC server and to other buses, all on one machine and in one run. \
Absolute figures differ from machine to machine, so most goals are ratios. The **floor** is a \
grpc.aio server on uvloop that stores nothing: an empty call on raw bytes, a call that parses the \
same request, awaits one future and builds the same response, a stream that writes prepared \
frames, and a stream that stays open. NATS JetStream stores in files and syncs them as often as \
it does by default; Redis Streams syncs each write (`appendfsync always`); ThreadBus syncs before \
each response.
"""

_LIMITS = """\
## Where a goal is missed, and why

- **P1, P2, P8.** These are reached on a quiet machine: an earlier run had P1 at 1.08 (1–1.09), \
P2 at 1.25 without the disk and 1.61 with it, and P8's posts/s at 0.949 (0.92–0.994). A wide \
range in brackets means that other processes were using the machine; single rounds then decide.
- **P3.** One core spends about 19 µs of Python and SQLite on a post: 4 on checking the request \
and building the message, 5.5 on deciding and inserting, 1.5 on the commit's share, 1.5 on \
keeping it for followers, 1.7 on the response, 4 in gRPC and the event loop. 100,000 a second \
would leave 10 for all of it. A `request_id` adds 5 µs for the second B-tree and 2 for the hash \
of the body; ids that do not ascend add another 12, and 1,000 threads a page each. NATS and Redis \
do this work in Go and C. NATS that syncs each write, as ThreadBus and Redis do, is far slower.
- **P4, relative to Redis.** Redis sends its entries unparsed, at 0.4 µs each. Of ThreadBus's 1.2 \
µs, half is SQLite's, and a Python client can hardly read faster.
- **P5.** The floor itself, whose streams wait on one Condition and write a prepared frame, \
delivers about 1.2 to 1.3 times the frames that it writes to one reader: 1.5 cannot be reached \
here. ThreadBus spends as much again on the timer, the position and the frame of each wait.
- **P6.** Ten thousand waits need about 260 keepalives a second, each a write of its own. A wait \
is five coroutines, a timer and its position. Two coroutines and a closure have been saved; the \
timer is asyncio's.
- **P9.** An isolated wake-up includes waking the processor: with a post every 50 ms, ThreadBus \
takes twice as long as with one every 5 ms, while AgentChatBus is busy all the time. Even the \
floor does not reach 15 times the posts/s.
"""

_METHOD = """\
## How it is measured

Servers run on one core, clients on another. Every client is a separate process; unary load comes \
from h2load (and from ghz where it says so, which is slower than the floor), all other load from \
Python clients that work on bytes. Each goal starts with a warm-up. \
Then the systems take turns, round after round; a ratio is of two figures of the same round. The \
table shows the median of the rounds, with the lowest and the highest in brackets. Every client \
counts lost and duplicated messages.

```console
$ scripts/bench            # everything: half an hour, on an otherwise idle machine
$ scripts/bench --quick    # rough figures in three minutes; does not change this page
$ threadbus bench          # measures your own server
```
"""


def write(run: Mapping[str, Any], folder: Path) -> None:
    """Write performance.md and its plots to `folder`."""
    folder.mkdir(exist_ok=True)
    drawn = plots.draw(run, folder / "performance")
    (folder / "performance.md").write_text("\n".join(_lines(run, drawn)) + "\n", "utf-8")


def summary(run: Mapping[str, Any]) -> str:
    """Returns the goals and their results as text for a terminal."""
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
        yield "**A quick or partial run: do not rely on these figures.**\n"
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
    yield "## Lost, duplicated and failed messages"
    yield ""
    yield "| # | system | sent | lost | duplicated | failed |"
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
    facts = {**run["machine"], **run["versions"]}
    yield "Measured on: " + ", ".join(f"{name} {value}" for name, value in facts.items()) + "."


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
        f"{counts.get('lost', 0):,} lost, {counts.get('duplicated', 0):,} duplicated, "
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
