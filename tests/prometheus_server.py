"""A Prometheus that scrapes servers as deploy/prometheus says, and answers queries."""

import contextlib
import json
import subprocess
import urllib.request
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import yaml

from tests.doc_examples import ROOT, page
from tests.polling import until
from tests.ports import free_port
from tests.scrapes import url
from tests.serving import ServerProcess

#: What the dashboard's variables stand for: all servers, and a few scrapes.
_VARIABLES = {"$job": ".*", "$instance": ".*", "$__rate_interval": "10s"}


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A running Prometheus."""

    port: int

    def ask(self, path: str, **parameters: Any) -> Any:
        """Returns the data of a response of its HTTP API. Raises OSError if it refuses."""
        given = urlencode(parameters)
        where = f"http://127.0.0.1:{self.port}/api/v1/{path}?{given}"
        with urllib.request.urlopen(where, timeout=20) as response:
            return json.load(response)["data"]

    def query(self, expression: str) -> list[Any]:
        """Returns the series of a query now, with what it selects from all servers."""
        series: list[Any] = self.ask("query", query=plain(expression))["result"]
        return series

    def is_ready(self) -> bool:
        """Returns whether it has scraped anything."""
        try:
            return bool(self.query("up"))
        except OSError:
            return False


def plain(expression: str) -> str:
    """Returns a query of the dashboard without its variables."""
    for name, value in _VARIABLES.items():
        expression = expression.replace(name, value)
    return expression


@contextlib.asynccontextmanager
async def scraping(
    program: Path, folder: Path, servers: Sequence[ServerProcess]
) -> AsyncIterator[Prometheus]:
    """Runs Prometheus, and yields it when it has scraped something. Scrapes every second.

    Args:
        program: Prometheus.
        folder: Where it keeps its configuration and its data.
        servers: Running servers, started with the flags of tests/scrapes.py.
    """
    config = yaml.safe_load(page("deploy/prometheus/prometheus.yml"))
    (job,) = config["scrape_configs"]
    job["scrape_interval"] = "1s"
    job["static_configs"] = [{"targets": [urlsplit(url(server)).netloc for server in servers]}]
    config["rule_files"] = [str(ROOT / "deploy/prometheus/alerts.yaml")]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config), "utf-8")
    prometheus = Prometheus(free_port())
    with (
        (folder / "prometheus.log").open("wb") as log,
        subprocess.Popen(
            [
                program,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{prometheus.port}",
            ],
            stdout=log,
            stderr=log,
        ) as process,
    ):
        try:
            await until(prometheus.is_ready)
            yield prometheus
        finally:
            process.kill()
