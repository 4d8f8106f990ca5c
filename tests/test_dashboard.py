"""The dashboard and the alerts in deploy/ fit what a server exports, and the docs explain both."""

import asyncio
import contextlib
import json
import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import promql_parser
import pytest
import yaml

from bus_client import BusClient, ThreadHandle, ThreadNotFound
from tests.doc_examples import ROOT, page
from tests.polling import until_known
from tests.programs import program
from tests.prometheus_server import scraping
from tests.scrapes import FLAGS, scrape
from tests.serving import ServerProcess

DASHBOARD = json.loads(page("deploy/grafana/threadbus.json"))
ALERTS = {
    rule["alert"]: rule
    for group in yaml.safe_load(page("deploy/prometheus/alerts.yaml"))["groups"]
    for rule in group["rules"]
}
#: What Prometheus makes: labels of all series, and series of its own with further labels.
ADDED = {"job", "instance"}
MADE = {"up": {}, "ALERTS": {"alertname": set(), "alertstate": {"firing"}}}
#: Exported, but not on the dashboard: others tell more.
NOT_SHOWN = {
    "grpc_server_msg_received_total",
    "grpc_server_msg_sent_total",
    "process_virtual_memory_bytes",
}
#: By sample: the values of each of its labels.
Exported = dict[str, dict[str, set[str]]]


@pytest.fixture(scope="module")
async def exported(
    tmp_path_factory: pytest.TempPathFactory, chosen_store: None
) -> AsyncIterator[Exported]:
    """What a server exports that has done a little of everything."""
    folder = tmp_path_factory.mktemp("metrics")
    with ServerProcess(folder / "bus.db", *FLAGS) as server:
        own = folder / "credentials.json"
        async with (
            BusClient(server.address, agent="coder", credentials=own) as coder,
            BusClient(server.address, agent="reviewer", credentials=own) as reviewer,
        ):
            thread = await reviewer.join("design")
            following = asyncio.ensure_future(anext(thread.follow()))
            await (await coder.join("design")).post("?", mentions=["reviewer"], ask=True)
            await following
            with pytest.raises(ThreadNotFound):
                await coder.get_thread("elsewhere")
            found = await scrape(server)
    samples: Exported = {}
    for sample, labels in found.values:
        values = samples.setdefault(sample, {})
        for name, value in labels:
            values.setdefault(name, set()).add(value)
    yield samples


def queries() -> Iterator[tuple[str, str, str]]:
    """Yields what each query is for, the query, and the text that shows its labels."""
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            expression = target["expr"].replace("$__rate_interval", "1m")
            yield panel["title"], expression, target["legendFormat"]
    for annotation in DASHBOARD["annotations"]["list"]:
        yield annotation["name"], annotation["expr"], annotation["titleFormat"]
    for name, rule in ALERTS.items():
        yield name, rule["expr"], "".join(rule["annotations"].values())


def selectors(expression: str) -> list[Any]:
    """Returns what a query selects: names of samples, with conditions for their labels."""
    found: list[Any] = []
    promql_parser.walk(promql_parser.parse(expression), found.append)
    return [node for node in found if isinstance(node, promql_parser.VectorSelector)]


def base(sample: str, exported: Exported) -> str:
    """Returns the name of a sample's metric."""
    name = re.sub("_(bucket|sum|count)$", "", sample)
    return name if f"{name}_bucket" in exported else sample


@pytest.mark.slow
@pytest.mark.sqlite
async def test_every_metric_and_label_of_dashboard_and_alerts_is_exported(
    exported: Exported,
) -> None:
    codes = {code.name.replace("_", "").lower() for code in grpc.StatusCode}
    known = exported | MADE
    for what, expression, shown in queries():
        labels = set(ADDED)
        for selector in selectors(expression):
            assert selector.name in known, what
            labels |= known[selector.name].keys()
            for matcher in selector.matchers.matchers:
                assert matcher.name in known[selector.name].keys() | ADDED, what
                if matcher.name == "grpc_code":
                    assert {code.lower() for code in matcher.value.split("|")} <= codes, what
                elif matcher.name not in ADDED | {"grpc_service", "alertname"}:
                    assert matcher.value in known[selector.name][matcher.name], what
        by = re.findall(r"\b(?:by|on|group_left) \(([^)]*)\)", expression)
        named = {name for names in by for name in names.replace(" ", "").split(",")}
        named |= set(re.findall(r"{{ ?(?:\$labels\.)?(\w+) ?}}", shown))
        assert named <= labels, what
    for variable in DASHBOARD["templating"]["list"][1:]:
        assert variable["query"]["query"].startswith("label_values(threadbus_info")


@pytest.mark.slow
@pytest.mark.sqlite
async def test_the_dashboard_shows_and_the_docs_explain_every_metric(exported: Exported) -> None:
    metrics = {
        base(sample, exported)
        for sample in exported
        if re.match("threadbus_|grpc_|process_", sample) and not sample.endswith("_created")
    }
    shown = {
        base(selector.name, exported)
        for what, expression, _ in queries()
        if what not in ALERTS
        for selector in selectors(expression)
    }
    assert metrics - shown == NOT_SHOWN
    section = page("docs/operations.md").partition("\n## Metrics\n")[2].partition("\n## ")[0]
    explained = set(re.findall(r"`((?:threadbus|grpc|process)_\w+)[`{]", section))
    assert explained == metrics


def test_every_alert_says_what_to_do_here_and_in_the_docs() -> None:
    headings = re.findall("^### (ThreadBus.*)$", page("docs/operations.md"), re.MULTILINE)
    assert headings == list(ALERTS)
    for name, rule in ALERTS.items():
        annotations = rule["annotations"]
        assert annotations["runbook"] == f"docs/operations.md#{name.lower()}"
        assert annotations["summary"]
        assert annotations["description"]
        assert rule["labels"]["severity"] in ("critical", "warning")


@pytest.mark.slow
def test_prometheus_takes_the_rules_and_each_alert_fires_when_it_should() -> None:
    promtool = program("promtool")
    tests = page("tests/prometheus/alerts.test.yaml")
    assert set(re.findall('alertname="(.*?)"', tests)) == ALERTS.keys()
    for arguments in (
        ["check", "config", "deploy/prometheus/prometheus.yml"],
        ["test", "rules", "tests/prometheus/alerts.test.yaml"],
    ):
        done = subprocess.run([promtool, *arguments], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.usefixtures("chosen_store")
@pytest.mark.soak
@pytest.mark.sqlite
async def test_every_panel_shows_something_of_a_server_that_is_used(tmp_path: Path) -> None:
    own = tmp_path / "credentials.json"
    shown = [query for what, query, _ in queries() if what not in ALERTS and "ALERTS" not in query]
    empty: list[str] = []

    async def is_shown() -> bool:
        with contextlib.suppress(ThreadNotFound):
            await bus.get_thread("elsewhere")
        await thread.post("?", mentions=["reviewer"], ask=True)
        results = await asyncio.to_thread(lambda: [*map(prometheus.query, shown)])
        empty[:] = [what for what, found in zip(shown, results, strict=True) if not found]
        return not empty

    with ServerProcess(tmp_path / "bus.db", *FLAGS) as server:
        async with (
            scraping(program("prometheus"), tmp_path, [server]) as prometheus,
            BusClient(server.address, agent="reviewer", credentials=own) as reviewer,
            BusClient(server.address, agent="coder", credentials=own) as bus,
        ):
            thread = await bus.join("design")
            following = asyncio.create_task(_read(await reviewer.join("design")))
            try:
                await until_known(is_shown, within=40)
            except TimeoutError:
                pytest.fail(f"without data: {empty}")
            finally:
                following.cancel()


async def _read(thread: ThreadHandle) -> None:
    async for _ in thread.follow():
        pass
