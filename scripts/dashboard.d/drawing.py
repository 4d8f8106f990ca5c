"""Draws the panels of a Grafana dashboard with matplotlib, where the dashboard has them."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

_COLUMNS = 24
#: Inches of a column and of a row of the dashboard's grid.
_WIDTH, _HEIGHT = 0.72, 0.42
_COLOURS = plt.get_cmap("tab10").colors
_BINARY = ("B", "KiB", "MiB", "GiB")

#: By the refId of a target: its series, as Prometheus returns them.
Data = Mapping[str, Sequence[Any]]


def draw(panels: Sequence[tuple[Mapping[str, Any], Data]], path: Path) -> None:
    """Draw panels into a PNG file. `panels`: each as the dashboard has it, with its data."""
    places = [panel["gridPos"] for panel, _ in panels]
    rows = max(place["y"] + place["h"] for place in places)
    figure = plt.figure(figsize=(_COLUMNS * _WIDTH, rows * _HEIGHT))
    for panel, data in panels:
        place = panel["gridPos"]
        left, width = place["x"] / _COLUMNS, place["w"] / _COLUMNS
        top = 1 - place["y"] / rows
        if panel["type"] == "row":
            figure.text(0.005, top - 0.8 / rows, panel["title"], weight="bold", size=11)
        elif panel["type"] == "stat":
            _stat(figure, panel, data, left + width / 2, top, rows)
        else:
            height = place["h"] / rows
            box = (left + 0.035, top - height * 0.72, width - 0.05, height * 0.58)
            _graph(figure.add_axes(box), panel, data)
    figure.savefig(path, dpi=75, metadata={"Software": None})
    plt.close(figure)


def _stat(figure: Any, panel: Mapping[str, Any], data: Data, x: float, y: float, rows: int) -> None:
    values = [float(series["values"][-1][1]) for found in data.values() for series in found]
    text = _text(panel, values[0]) if values else "no data"
    figure.text(x, y - 1.1 / rows, panel["title"], size=9, ha="center", color="#57606a")
    figure.text(x, y - 2.9 / rows, text, size=17, ha="center", color="#1a7f37")


def _graph(axes: Axes, panel: Mapping[str, Any], data: Data) -> None:
    stacked = "stacking" in panel["fieldConfig"]["defaults"].get("custom", {})
    lines: list[tuple[str, list[float], list[float]]] = []
    for target in panel["targets"]:
        for series in data[target["refId"]]:
            times, values = zip(*series["values"], strict=True)
            label = _legend(target["legendFormat"], series["metric"])
            lines.append((label, list(times), [float(value) for value in values]))
    lines.sort(key=lambda line: line[0])
    start = min((times[0] for _, times, _ in lines), default=0.0)
    if stacked and lines:
        moments = sorted({moment for _, times, _ in lines for moment in times})
        known = [dict(zip(times, values, strict=True)) for _, times, values in lines]
        heights = [[each.get(moment, math.nan) for moment in moments] for each in known]
        since = [moment - start for moment in moments]
        axes.stackplot(
            since, heights, labels=[label for label, _, _ in lines], colors=_COLOURS, alpha=0.6
        )
    else:
        for at, (label, times, values) in enumerate(lines):
            since = [moment - start for moment in times]
            axes.plot(since, values, label=label, lw=1, color=_COLOURS[at % len(_COLOURS)])
    axes.set_title(panel["title"], size=9, loc="left")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _text(panel, value)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f} s"))
    axes.tick_params(labelsize=7, colors="#57606a")
    axes.grid(alpha=0.3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if lines:
        axes.legend(
            fontsize=6,
            ncols=panel["gridPos"]["w"] // 3,
            frameon=False,
            loc="upper left",
            bbox_to_anchor=(-0.02, -0.12),
        )


def _legend(form: str, labels: Mapping[str, str]) -> str:
    return re.sub(r"{{(\w+)}}", lambda found: labels.get(found[1], ""), form)


def _text(panel: Mapping[str, Any], value: float) -> str:
    """Returns a value in the panel's unit."""
    match panel["fieldConfig"]["defaults"]["unit"]:
        case "s":
            return f"{value * 1e3:.3g} ms" if value < 1 else f"{value:,.3g} s"
        case "bytes":
            power = 0
            while abs(value) >= 1024 and power < len(_BINARY) - 1:
                value, power = value / 1024, power + 1
            return f"{value:,.3g} {_BINARY[power]}"
        case "percentunit":
            return f"{value:.2%}"
        case "cps" | "reqps":
            return f"{value:,.3g}/s"
    return f"{value:,.0f}" if value >= 1_000 else f"{value:.3g}"
