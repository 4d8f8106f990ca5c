"""Scrapes of a server's metrics."""

import asyncio
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from tests.serving import ServerProcess

#: A metric's name, and its labels.
Series = tuple[str, frozenset[tuple[str, str]]]

FLAGS = ("--metrics", "127.0.0.1:0")


def url(server: ServerProcess) -> str:
    """Returns the URL of a server's metrics."""
    return server.announcement.rpartition(" · metrics ")[2]


def fetch(server: ServerProcess) -> str:
    """Returns the metrics as text."""
    with urllib.request.urlopen(url(server), timeout=20) as response:  # noqa: S310 - it is http
        text: str = response.read().decode()
    return text


class Scrape:
    """The metrics of a server at one time."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families = {each.name: each for each in text_string_to_metric_families(text)}
        self.values: dict[Series, float] = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.families.values()
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float:
        """Returns the value of a metric. Raises KeyError if it is missing."""
        return self.values[name, frozenset(labels.items())]

    def call(self, name: str, method: str, **labels: str) -> float:
        """Returns the value of a metric of an RPC method of ThreadBus; 0 if it is missing."""
        found = [
            value
            for (each, pairs), value in self.values.items()
            if each == name and {("grpc_method", method), *labels.items()} <= pairs
        ]
        return sum(found)


async def scrape(server: ServerProcess) -> Scrape:
    """Returns the metrics of a server."""
    return Scrape(await asyncio.to_thread(fetch, server))
