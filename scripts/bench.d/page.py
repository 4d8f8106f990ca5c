"""Writes docs/performance.md from the results of a run."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import disturbance
import plots

_INTRO = """\
# Performance

ThreadBus compared to a bare gRPC server and to other buses, all on one machine and in one run. \
Absolute figures differ from machine to machine, so most goals are ratios. The **floor** is a \
grpc.aio server on uvloop that stores nothing: an empty call on raw bytes, a call that parses the \
same request, awaits one future and builds the same response (its posts/s and its round trips), a \
stream that writes prepared frames, and a stream that stays open. ThreadBus syncs to disk before \
each response. Redis Streams does the same (`appendfsync always`). NATS JetStream does so with \
`sync_interval: always`, which the goals are compared to; by default it syncs every two minutes, \
which is shown beside. What servers on PostgreSQL do is compared \
[below](#on-a-file-and-on-postgresql).
"""

_ENGINES = """\
## On a file and on PostgreSQL

One server on each, in turns; PostgreSQL runs on the clients' core, as if it had a machine of its \
own. A lone post takes two round trips to the database, and each statement costs CPU time in \
Python. What is committed together shares both.

| medians of S2 | on a file | on PostgreSQL |
| --- | --- | --- |"""

_LIMITS = """\
## Where a goal is missed, and why

- **P1.** Posts that are committed together are answered together, which costs gRPC less. With 64 \
in flight, batches of 40 pay for nearly all that the store does: full runs on three days found \
0.97, 1.03 and 1.05. With 8 in flight the batches are small, and while the disk syncs, a tenth of \
the time, nothing else is to be done.
- **P2.** A bare server with a database thread takes 1.5 round trips, and 1.17 if it syncs on the \
event loop's thread. That was tried here, and no faster: see [the linger](decisions/linger.md). \
What is left of a lone post is some 130 small steps, with caches that are cold.
- **P3.** A post takes 15 to 17 µs of CPU time: 2.5 to check it, 3.6 to decide it, 2.6 to insert \
it, 1.4 for the response, and the rest in gRPC, the event loop and the commit. 100,000 a second \
would leave 10 for all of it. A `request_id` adds 8 to 9: its hash, the look-up and a second \
B-tree. NATS and Redis do this work in Go and C.
- **P4.** Of 1.6 µs a message, SQLite and Python's module for it take 0.8, the frame 0.3, and gRPC \
most of the rest. Redis sends its entries unparsed, at 0.4. Its client here and that of NATS, in \
Python, are slower than these servers, which use a tenth to a fifth of their core: those ratios \
compare what the clients of each get.
- **P5.** The floor's own fan-out is 1.4 to 1.6 times its writes to one reader. \
ThreadBus's waits are of a thousand agents, each without its own messages. A delivery takes 25 µs \
of CPU time more than the floor's: it records for each agent what it was sent, and that it now has \
work, computes its position and its next keepalive, and sees whether the wait is over.
- **P9.** An isolated wake-up includes waking the processor: with a post every 50 ms, as here, \
ThreadBus takes 1.5 times as long as with one every 5 ms (P2), while AgentChatBus is busy all the \
time. Half of its posts fail; the posts/s are of those that it stored. Their ratio varies by a \
third from round to round, and is above the goal in some runs.
- **SDK, replay.** A bare stub parses a frame of a thousand messages at once. The SDK also marks \
each message as read when the next one is requested.
"""

_METHOD = """\
## How it is measured

Servers run on one core, clients on another. Every client is a separate process. Each goal starts \
with a warm-up. Then the systems take turns, round after round; a ratio is of two figures of the \
same round. The table shows the median of the rounds, with the lowest and the highest in brackets. \
Clients count lost and duplicated messages. CPU time is that of all the server's threads \
(`/proc/PID/task/*/schedstat`).

**The clients must be faster than the servers**, otherwise all servers look equally fast. ghz uses \
more CPU time for a call than the floor, so that a server half as fast as the floor looks almost \
equal to it. Posts/s are therefore measured with h2load (4 connections, one thread) and, where \
posts go to many threads, with a Python client that writes prepared HTTP/2 frames. That client \
also measures the fan-out, and posts that arrive at random. ghz's figures are shown beside them. \
Batches, replay and wake-ups are measured with gRPC clients in Python that work on bytes.

**Posts that arrive at random** are a Poisson process: they are sent when they are due, whether or \
not earlier posts were answered, and a post's latency counts from when it was due. The rates are \
shares of each system's own posts/s with 64 in flight. In a few seconds at 10 %, there are few \
posts: the p99.9 is then the slowest, or nearly. Where the client itself was disturbed, it sent \
posts late, which "sent late" among the figures shows.

**M1** starts a server as the host of a coding agent does: `initialize`, `tools/list`, and a call \
that joins a thread. The other server has the same tools, with the same descriptions, over the \
official Python SDK. Tokens are of o200k_base: of the instructions, and of the name, description \
and input schema of each tool.

**Plots** show the median of the loads of each point. Those of posts/s, fan-out and growth also \
show the lowest and the highest, as a shade. Their loads are not those of the tables.

**Disturbed rounds.** Other work on the machine makes figures worse. A load counts as disturbed \
if, while it ran, everything else (stolen time included) used more than {others} of one core; or \
if a fixed piece of Python, run on the server's core for a tenth of a second before and after, \
took on average more than {slower} times the CPU time of the fastest in the run, which shows a \
busy neighbour on the same hardware. A round with such a load is disturbed. The tables count \
such rounds, and the values of each figure from such loads. Medians are of all rounds, disturbed \
or not. A slow disk is not detected; P2 measures the disk itself.

```console
$ scripts/bench            # everything: 20 to 40 minutes, on an otherwise idle machine
$ scripts/bench --quick    # rough figures in a few minutes; does not change this page
$ threadbus bench          # measures your own server
```
"""


#: The first of the sections that are written by hand, which are kept.
_KEPT = "## Soak"


def write(run: Mapping[str, Any], folder: Path) -> None:
    """Write performance.md and its plots to `folder`. Keeps its sections from _KEPT on."""
    folder.mkdir(exist_ok=True)
    drawn = plots.draw(run, folder / "performance")
    page = folder / "performance.md"
    _, kept, rest = (page.read_text("utf-8") if page.exists() else "").partition(f"\n{_KEPT}\n")
    text = "\n".join(_lines(run, drawn)) + "\n"
    page.write_text(text + kept + rest, "utf-8")


def summary(run: Mapping[str, Any]) -> str:
    """Returns the goals and their results as text for a terminal."""
    lines = []
    for outcome in run["outcomes"]:
        lines.append(
            f"{outcome['goal']:4} {outcome['work']}  ({outcome['seconds']:.0f} s, "
            f"{disturbance.rounds(outcome)} rounds disturbed)"
        )
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
    yield "| # | work | goal | measured | | disturbed rounds |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for outcome in run["outcomes"]:
        for number, criterion in enumerate(outcome["criteria"]):
            first = "", "", ""
            if number == 0:
                first = outcome["goal"], outcome["work"], disturbance.rounds(outcome)
            reached = "reached" if criterion["reached"] else "**missed**"
            yield (
                f"| {first[0]} | {first[1]} | {criterion['what']}: {_goal(criterion)} | "
                f"{_measured(criterion)} | {reached} | {first[2]} |"
            )
    yield ""
    yield _disturbed(run["outcomes"])
    yield ""
    for text, path in drawn:
        yield f"![{text}]({path})"
        yield ""
    yield _LIMITS
    for outcome in run["outcomes"]:
        if outcome["goal"] == "S2":
            yield from _engines(outcome["figures"])
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
    yield "| # | figure | median | lowest | highest | rounds | disturbed |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for outcome in run["outcomes"]:
        for name, values in outcome["figures"].items():
            cells = " | ".join(_number(value) for value in _spread(values))
            disturbed = outcome["disturbed"][name] or ""
            yield f"| {outcome['goal']} | {name} | {cells} | {len(values)} | {disturbed} |"
    notes = [
        f"{outcome['goal']}: {note}" for outcome in run["outcomes"] for note in outcome["notes"]
    ]
    if notes or run["missing"]:
        yield ""
        yield from (f"- {note}" for note in [*notes, *run["missing"]])
    yield ""
    yield _METHOD.format(others=disturbance.OTHERS, slower=disturbance.SLOWER)
    facts = {**run["machine"], **run["versions"]}
    yield "Measured on: " + ", ".join(f"{name} {value}" for name, value in facts.items()) + "."


def _engines(figures: Mapping[str, Sequence[float]]) -> Iterator[str]:
    """Yields the comparison of the stores. `figures`: those of S2."""
    yield _ENGINES
    for what, values in figures.items():
        store, _, measured = what.partition(", ")
        if store == "ThreadBus on PostgreSQL":
            on_file = figures.get(f"ThreadBus on a file, {measured}", ())
            cells = [_number(_spread(each)[0]) if each else "" for each in (on_file, values)]
            yield f"| {measured} | {' | '.join(cells)} |"
    later = _number(_spread(figures["another server: after the response, p50 ms"])[0])
    yield f"| wake-up at another server, after the post's response: p50 ms | (S1) | {later} |"
    yield ""


def _disturbed(outcomes: Sequence[Mapping[str, Any]]) -> str:
    """Returns how much of the run was disturbed, as a sentence."""
    loads = [load for outcome in outcomes for load in outcome["loads"]]
    count = sum(load["disturbed"] for load in loads)
    return (
        f"{count:,} of {len(loads):,} loads, those of the plots included, ran while something else "
        "used the machine: see [below](#how-it-is-measured)."
    )


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
