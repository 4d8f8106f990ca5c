"""The plots of a run."""

from collections.abc import Callable, Mapping
from pathlib import Path
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
    "Redis Streams": "#cf222e",
}


def draw(run: Mapping[str, Any], folder: Path) -> list[tuple[str, str]]:
    """Draw the plots for which the run has data. Returns the title and relative path of each."""
    folder.mkdir(exist_ok=True)
    series = {outcome["goal"]: outcome["series"] for outcome in run["outcomes"]}
    drawn = []
    for goal, key, name, text, drawing in (
        ("P2", "latencies", "wake-up", "How long wake-ups take", _distribution),
        ("P1", "latencies", "latency", "How long posts take, 64 in flight", _distribution),
        ("P1", "throughput", "throughput", "Posts/s by posts in flight", _throughput),
        ("P8", "growth", "growth", "Cost by messages in the store", _growth),
        ("P6", "memory", "memory", "Memory by idle waits", _memory),
    ):
        if found := series.get(goal, {}).get(key):
            _plot(folder / f"{name}.png", text, drawing, found)
            drawn.append((text, f"{folder.name}/{name}.png"))
    return drawn


def _plot(path: Path, text: str, drawing: Callable[[Any, Any], None], found: Any) -> None:
    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    drawing(axes, found)
    axes.set_title(text, fontsize=10)
    axes.grid(visible=True, alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
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


def _throughput(axes: Any, found: Mapping[str, list[list[float]]]) -> None:
    for name, points in found.items():
        axes.plot(*zip(*points, strict=True), "o-", label=name, color=_COLOURS.get(name))
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("posts in flight")
    axes.set_ylabel("posts/s")


def _growth(axes: Any, found: Mapping[str, list[Any]]) -> None:
    for name, points in found.items():
        medians = [sorted(values)[len(values) // 2] for _, values in points]
        # The axis is logarithmic and has no 0: an empty store is drawn at 1,000.
        places = [max(messages, 1_000) for messages, _ in points]
        shares = [value / medians[0] for value in medians]
        axes.plot(places, shares, "o-", label=name)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_ylim(0, 1.5)
    axes.set_xlabel("messages in the store; the empty one is drawn at 1,000")
    axes.set_ylabel("relative to the empty store")


def _memory(axes: Any, found: Mapping[str, list[list[float]]]) -> None:
    for name, points in found.items():
        ordered = sorted(points)
        waits, used = zip(*ordered, strict=True)
        axes.plot(waits, [u / 2**20 for u in used], "o-", label=name, color=_COLOURS.get(name))
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("idle waits")
    axes.set_ylabel("MiB")
