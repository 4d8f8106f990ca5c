"""The plots of a run."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import LogLocator, StrMethodFormatter

_COLOURS = {
    "ThreadBus": "#1f6feb",
    "floor": "#8b949e",
    "floor's round trip": "#8b949e",
    "NATS JetStream": "#2da44e",
    "NATS JetStream, synced each time": "#9a6700",
    "Redis Streams": "#cf222e",
}
#: The percentiles of a plot of latencies → the style of their lines.
_STYLES = {"p50": "-", "p90": "--", "p99": "-.", "p99.9": ":"}

Drawing = Callable[[Any, Any], None]


def draw(run: Mapping[str, Any], folder: Path) -> list[tuple[str, str]]:
    """Draw the plots for which the run has data. Returns the title and relative path of each."""
    folder.mkdir(exist_ok=True)
    series = {outcome["goal"]: outcome["series"] for outcome in run["outcomes"]}
    drawn = []
    for goal, name, text, panels in _plots():
        found = series.get(goal, {})
        if all(found.get(key) for key in panels):
            data = [(drawing, found[key]) for key, drawing in panels.items()]
            _plot(folder / f"{name}.png", text, data)
            drawn.append((text, f"{folder.name}/{name}.png"))
    return drawn


def _plots() -> list[tuple[str, str, str, dict[str, Drawing]]]:
    """Returns the goal, file, title and panels of each plot: the key of a series → its drawing."""
    in_flight = partial(_curve, across="posts in flight", base=2)
    waits = partial(_curve, across="waits", base=10)
    stored = partial(_curve, across="messages; an empty store is drawn at 1,000", base=10)
    return [
        ("P2", "wake-up", "How long wake-ups take", {"latencies": _distribution}),
        ("P1", "latency", "How long posts take, 64 in flight", {"latencies": _distribution}),
        (
            "P1",
            "throughput",
            "Posts/s and their cost by posts in flight",
            {
                "throughput": partial(in_flight, up="posts/s"),
                "cost": partial(in_flight, up="server CPU µs per post"),
            },
        ),
        ("P1", "rate", "How long posts take that arrive at random, by their rate", {"rate": _rate}),
        (
            "P5",
            "fan-out",
            "One post to many waits",
            {
                "fan-out": partial(waits, up="ms until the last wait has it", log=True),
                "deliveries": partial(waits, up="deliveries/s"),
            },
        ),
        ("P6", "memory", "Memory by idle waits", {"memory": _memory}),
        (
            "P8",
            "growth",
            "Cost by messages in the store",
            {
                "posts/s": partial(stored, up="posts/s"),
                "wake-up p50 ms": partial(stored, up="wake-up p50, ms"),
            },
        ),
    ]


def _plot(path: Path, text: str, panels: Sequence[tuple[Drawing, Any]]) -> None:
    width = 7 if len(panels) == 1 else 9
    figure, _ = plt.subplots(1, len(panels), figsize=(width, 3.6), layout="constrained")
    for each, (drawing, found) in zip(figure.axes, panels, strict=True):
        drawing(each, found)
        each.grid(visible=True, alpha=0.3)
        each.legend(edgecolor="none", framealpha=0.6, fontsize=8)
    figure.suptitle(text, fontsize=10)
    # Without date and program name, so that equal data gives equal files.
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def _distribution(axes: Any, found: Mapping[str, list[float]]) -> None:
    for name, seconds in found.items():
        ordered = sorted(seconds)
        shares = [(at + 1) / len(ordered) * 100 for at in range(len(ordered))]
        axes.plot([s * 1e3 for s in ordered], shares, label=name, color=_COLOURS.get(name))
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter("")
    axes.set_xlabel("ms")
    axes.set_ylabel("% completed")


def _curve(
    axes: Any,
    found: Mapping[str, list[tuple[int, list[float]]]],
    *,
    across: str,
    up: str,
    base: int,
    log: bool = False,
) -> None:
    """Draw the median of the values of each point, and their range."""
    for name, points in found.items():
        # The axis is logarithmic and has no 0.
        places = [at or 1_000 for at, _ in points]
        values = [each for _, each in points]
        colour = _COLOURS.get(name)
        axes.plot(places, [median(each) for each in values], "o-", label=name, color=colour)
        low, high = [min(each) for each in values], [max(each) for each in values]
        axes.fill_between(places, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set_xscale("log", base=base)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    if log:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    else:
        axes.set_ylim(bottom=0)
    axes.set_xlabel(across)
    axes.set_ylabel(up)


def _rate(axes: Any, found: Mapping[str, list[tuple[int, dict[str, list[float]]]]]) -> None:
    """Draw the median of each percentile's values."""
    for name, points in found.items():
        for part, style in _STYLES.items():
            shares = [share for share, _ in points]
            latencies = [median(each[part]) for _, each in points]
            colour = _COLOURS.get(name)
            axes.plot(shares, latencies, style, marker=".", label=f"{name}, {part}", color=colour)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.set_xlabel("rate, in % of the system's own posts/s with 64 in flight")
    axes.set_ylabel("ms since the post was due")


def _memory(axes: Any, found: Mapping[str, list[list[float]]]) -> None:
    for name, points in found.items():
        ordered = sorted(points)
        waits, used = zip(*ordered, strict=True)
        axes.plot(waits, [u / 2**20 for u in used], "o-", label=name, color=_COLOURS.get(name))
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("idle waits")
    axes.set_ylabel("MiB")
