"""Measures the goals and writes the page."""

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import disturbance
import goal_ancestor
import goal_batches
import goal_cli
import goal_fan_out
import goal_growth
import goal_heartbeats
import goal_idle
import goal_mcp
import goal_postgres
import goal_posts
import goal_replay
import goal_retention
import goal_sdk
import goal_servers
import goal_wakes
import machine
import page
import tools
from bench import Bench
from results import Outcome, unfaulty

ROOT = Path(__file__).parents[2]
HERE = ROOT / ".bench"
GOALS: dict[str, Callable[[Bench], Outcome]] = {
    "P1": goal_posts.measure,
    "P2": goal_wakes.measure,
    "P3": goal_batches.measure,
    "P4": goal_replay.measure,
    "P5": goal_fan_out.measure,
    "P6": goal_idle.measure,
    "P7": goal_heartbeats.measure,
    "P8": goal_growth.measure,
    "P9": goal_ancestor.measure,
    "P10": goal_cli.measure,
    "SDK": goal_sdk.measure,
    "M1": goal_mcp.measure,
    "S1": goal_servers.measure,
    "S2": goal_postgres.measure,
    "G1": goal_retention.measure,
}

#: Minutes that each goal takes on two cores on which the floor makes 3,000 posts/s.
_MINUTES = {
    "P1": 7.0,
    "P2": 3.5,
    "P3": 3.0,
    "P4": 4.0,
    "P5": 3.0,
    "P6": 3.5,
    "P7": 1.0,
    "P8": 7.5,
    "P9": 3.0,
    "P10": 0.5,
    "SDK": 2.0,
    "M1": 0.8,
    "S1": 1.0,
    "S2": 3.0,
    "G1": 6.0,
}

#: Errors of a failed measurement: a process did not start, failed, hung, or printed invalid output.
_FAILURES = (RuntimeError, OSError, subprocess.SubprocessError, LookupError, ValueError)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measures ThreadBus and compares it to other buses. Exit code 1: ThreadBus "
        "lost or duplicated messages, or a measurement failed.",
    )
    parser.add_argument("--quick", action="store_true", help="rough figures, in a few minutes")
    parser.add_argument("--only", metavar="P1,P2,…", type=_goals, default=list(GOALS))
    parser.add_argument(
        "--page", metavar="FILE.json", type=Path, help="only write the page of an earlier run"
    )
    options = parser.parse_args()
    if options.page:
        page.write(json.loads(options.page.read_text("utf-8")), ROOT / "docs")
        return 0
    whole = not options.quick and options.only == list(GOALS)
    run = measure(options.only, quick=options.quick)
    stamp = run["date"].replace(":", "").replace("-", "")
    results = HERE / f"results-{stamp}.json"
    results.write_text(json.dumps(run), "utf-8")
    target = ROOT / "docs" if whole else HERE
    page.write(run, target)
    print(page.summary(run))
    print(f"\n{results}\n{target / 'performance.md'}", file=sys.stderr)
    sound = unfaulty(run["outcomes"]) and len(run["outcomes"]) == len(options.only)
    return 0 if sound else 1


def _goals(text: str) -> list[str]:
    chosen = [name.strip().upper() for name in text.split(",")]
    if unknown := set(chosen) - set(GOALS):
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)} is not one of {', '.join(GOALS)}")
    return [name for name in GOALS if name in chosen]


def measure(names: Sequence[str], *, quick: bool) -> dict[str, Any]:
    """Measure the goals. Returns the data of the page."""
    found = tools.install(HERE)
    for missing in found.missing:
        print(f"── {missing} It is skipped.", file=sys.stderr)
    outcomes: list[dict[str, Any]] = []
    failures: list[str] = []
    if not quick:
        minutes = sum(_MINUTES[name] for name in names)
        print(f"── this takes about {minutes:.0f} minutes", file=sys.stderr)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="work-", dir=HERE) as folder:
        bench = Bench(found, Path(folder), quick)
        for number, name in enumerate(names):
            goal = f"{name}, {number + 1} of {len(names)}"
            past = (time.monotonic() - began) / 60
            print(f"── {goal}, after {past:.1f} minutes", file=sys.stderr, flush=True)
            goal_began = time.monotonic()
            try:
                outcome = GOALS[name](bench).document()
            except _FAILURES as error:
                # Continue with the other goals.
                failures.append(f"{name} could not be measured: {error!r}")
                print(f"── {failures[-1]}", file=sys.stderr, flush=True)
                continue
            outcome["seconds"] = time.monotonic() - goal_began
            outcomes.append(outcome)
    disturbance.judge(outcomes)
    now = datetime.datetime.now(datetime.UTC)
    return {
        "date": now.isoformat(timespec="seconds"),
        "quick": quick,
        "only": list(names),
        "minutes": (time.monotonic() - began) / 60,
        "machine": machine.description(),
        "versions": found.versions,
        "missing": [*found.missing, *failures],
        "outcomes": outcomes,
    }


if __name__ == "__main__":
    sys.exit(main())
