"""Plays a scene on two servers, and draws the dashboard from what Prometheus saw of it."""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

from drawing import draw
from scene import play

from tests.prometheus_server import Prometheus, plain, scraping
from tests.scrapes import FLAGS as METRICS
from tests.serving import ServerProcess

ROOT = Path(__file__).parents[2]
#: Agents fall silent within a short run.
FLAGS = ("--agent-timeout", "20", "--heartbeat-interval", "5")


async def run(seconds: float, out: Path) -> int:
    """Returns the exit code: 1 if a panel has no data."""
    dashboard = json.loads((ROOT / "deploy/grafana/threadbus.json").read_text("utf-8"))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        servers = [ServerProcess(folder / "bus.db", *METRICS, *FLAGS, fresh=True) for _ in range(2)]
        with servers[0], servers[1]:
            async with scraping(ROOT / ".tools/bin/prometheus", folder, servers) as prometheus:
                begin = time.time()
                await play([server.address for server in servers], folder, seconds)
                data = await asyncio.to_thread(
                    _data, prometheus, dashboard, begin + 10, time.time()
                )
        draw(list(zip(dashboard["panels"], data, strict=True)), out)
    without = [
        panel["title"]
        for panel, found in zip(dashboard["panels"], data, strict=True)
        if not all(found.values())
    ]
    for title in without:
        print(f"no data: {title}", file=sys.stderr)
    return int(bool(without))


def _data(prometheus: Prometheus, dashboard: dict, begin: float, end: float) -> list[dict]:
    return [
        {
            target["refId"]: prometheus.ask(
                "query_range", query=plain(target["expr"]), start=begin, end=end, step=1
            )["result"]
            for target in panel.get("targets", ())
        }
        for panel in dashboard["panels"]
    ]


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--seconds", type=float, default=180.0, help="how long the scene takes")
parser.add_argument("--out", type=Path, default=ROOT / "docs/operations/dashboard.png")
given = parser.parse_args()
given.out.parent.mkdir(exist_ok=True)
sys.exit(asyncio.run(run(given.seconds, given.out)))
