"""serve --metrics: each metric changes when it should, and none says who or where."""

import asyncio
import contextlib
import http.client
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1.health_pb2 import HealthCheckRequest
from grpc_health.v1.health_pb2_grpc import HealthStub

from bus_server import __version__
from bus_server.status import TABLE
from tests import serving
from tests.callers import register
from tests.conftest import StartServer
from tests.connections import Connection, connected
from tests.locks import locked
from tests.open_wait import open_wait
from tests.polling import until_known
from tests.refusals import refused
from tests.refused_start import contents, refused_start
from tests.rpcs import RPCS
from tests.scrapes import FLAGS, Scrape, Series, fetch, scrape, url
from tests.serving import ServerProcess
from threadbus.extras import install_command
from threadbus.v1.bus_service_pb2 import (
    GetMessageRequest,
    GetServerInfoRequest,
    PostMessageRequest,
    PostMessagesRequest,
)
from threadbus.v1.message_pb2 import ExpectReply
from threadbus.v1.thread_service_pb2 import CreateThreadRequest, GetThreadRequest

METHOD = frozenset(("grpc_type", "grpc_service", "grpc_method"))
#: The labels of every metric of the server, by name.
LABELS: dict[str, frozenset[str]] = {
    "grpc_server_started_total": METHOD,
    "grpc_server_handled_total": METHOD | {"grpc_code"},
    "grpc_server_msg_received_total": METHOD,
    "grpc_server_msg_sent_total": METHOD,
    "grpc_server_handling_seconds_bucket": METHOD | {"le"},
    "grpc_server_handling_seconds_count": METHOD,
    "grpc_server_handling_seconds_sum": METHOD,
    "threadbus_agents": frozenset(("presence",)),
    "threadbus_info": frozenset(("version", "store")),
    "threadbus_rejections_total": frozenset(("reason",)),
    **{
        f"threadbus_{name}": frozenset(("le",)) if name.endswith("_bucket") else frozenset()
        for histogram in ("wake_seconds", "commit_seconds", "batch_posts")
        for name in (f"{histogram}_bucket", f"{histogram}_count", f"{histogram}_sum")
    },
    **{
        f"threadbus_{name}": frozenset()
        for name in (
            *("messages_posted_total", "messages_delivered_total", "open_waits", "queued_posts"),
            *("queued_bytes", "store_lag_seconds", "hint_lag_seconds", "requests_open"),
            *("requests_overdue", "store_bytes", "store_free_bytes", "log_bytes"),
            *("disk_free_bytes", "store_failing"),
        )
    },
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, chosen_store: None) -> Iterator[ServerProcess]:
    """This module's server, with metrics and few posts a minute for each agent."""
    db = tmp_path_factory.mktemp("server") / "bus.db"
    with ServerProcess(db, *FLAGS, "--posts-per-minute", "500") as running:
        yield running
        assert not running.problems


@pytest.fixture
async def client(server: ServerProcess) -> AsyncIterator[Connection]:
    async with connected(server.address) as connection:
        yield connection


async def until_scraped(server: ServerProcess, state: Callable[[Scrape], bool]) -> Scrape:
    """Returns the first scrape of which `state` is true."""
    found = await scrape(server)

    async def known() -> bool:
        nonlocal found
        found = await scrape(server)
        return state(found)

    await until_known(known)
    return found


async def quiet(server: ServerProcess, client: Connection) -> Scrape:
    """Returns a scrape of now, once no wait is open. One alone may be a second old."""
    name, old = "grpc_server_handled_total", await scrape(server)
    await client.bus.GetServerInfo(GetServerInfoRequest())
    return await until_scraped(
        server,
        lambda found: (
            not found.value("threadbus_open_waits")
            and found.call(name, "GetServerInfo") > old.call(name, "GetServerInfo")
        ),
    )


async def post(client: Connection, thread: str, **fields: Any) -> None:
    await client.bus.PostMessage(PostMessageRequest(thread=thread, content="x", **fields))


def request(server: ServerProcess, method: str, path: str) -> tuple[int, dict[str, str], bytes]:
    """Returns the status, the headers and the body of a response."""
    place = urlsplit(url(server))
    with contextlib.closing(http.client.HTTPConnection(place.netloc, timeout=20)) as opened:
        opened.request(method, path)
        response = opened.getresponse()
        return response.status, dict(response.headers), response.read()


def connect(server: ServerProcess) -> socket.socket:
    place = urlsplit(url(server))
    assert place.hostname
    return socket.create_connection((place.hostname, place.port or 0), timeout=20)


async def test_every_metric_has_its_labels_and_a_help_text(
    server: ServerProcess, client: Connection
) -> None:
    await client.bus.GetServerInfo(GetServerInfoRequest())
    found = await until_scraped(
        server, lambda found: found.call("grpc_server_handling_seconds_count", "GetServerInfo") > 0
    )
    labels: dict[str, set[frozenset[str]]] = {}
    for name, pairs in found.values:
        labels.setdefault(name, set()).add(frozenset(key for key, _ in pairs))
    assert all(len(each) == 1 for each in labels.values())
    own = {name: each.pop() for name, each in labels.items() if not name.startswith("process_")}
    expected = dict(LABELS)
    if serving.database_of is not None:
        del expected["threadbus_disk_free_bytes"]
    assert own == expected
    assert {"process_cpu_seconds_total", "process_open_fds"} < labels.keys()
    assert all(len(family.documentation) > 15 for family in found.families.values())
    kind = "sqlite" if serving.database_of is None else "postgresql"
    assert found.value("threadbus_info", version=__version__, store=kind) == 1


async def test_every_method_and_reason_is_counted_from_0(server: ServerProcess) -> None:
    found = await scrape(server)
    pairs = [dict(pairs) for name, pairs in found.values if name == "grpc_server_started_total"]
    types = {f"/{each['grpc_service']}/{each['grpc_method']}": each["grpc_type"] for each in pairs}
    expected = {
        rpc.path: "bidi_stream" if rpc.takes_many else "server_stream" if rpc.streams else "unary"
        for rpc in RPCS
    }
    assert {path: kind for path, kind in types.items() if "threadbus" in path} == expected
    assert types["/grpc.health.v1.Health/Watch"] == "server_stream"
    assert types["/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"] == "bidi_stream"
    for _, reason in TABLE.values():
        if reason:
            assert found.value("threadbus_rejections_total", reason=reason) >= 0


async def test_histograms_are_cumulative(server: ServerProcess, client: Connection) -> None:
    await client.threads.CreateThread(CreateThreadRequest(thread="cumulative"))
    found = await until_scraped(
        server, lambda found: found.call("grpc_server_handling_seconds_count", "CreateThread") > 0
    )
    by_series: dict[Series, list[tuple[float, float]]] = {}
    for (name, pairs), value in found.values.items():
        if name.endswith("_bucket"):
            labels = dict(pairs)
            bound = float(labels.pop("le"))
            key = name.removesuffix("_bucket"), frozenset(labels.items())
            by_series.setdefault(key, []).append((bound, value))
    assert len(by_series) > 3
    for (name, own), buckets in by_series.items():
        counts = [count for _, count in sorted(buckets)]
        assert counts == sorted(counts)
        assert sorted(buckets)[-1] == (float("inf"), found.values[f"{name}_count", own])


async def test_posts_commits_deliveries_wake_ups_and_calls_are_counted(
    server: ServerProcess, client: Connection
) -> None:
    await client.threads.CreateThread(CreateThreadRequest(thread="counted"))
    before = await quiet(server, client)
    async with open_wait(client.bus, "counted") as live:
        await live.until(lambda: "caught_up" in live.kinds())
        for seq in (1, 2, 3):
            await post(client, "counted")
            await live.until(lambda seq=seq: live.seqs("counted")[-1:] == [seq])  # type: ignore[misc]
        batch = [PostMessageRequest(thread="counted", content="x") for _ in range(4)]
        async for _ in client.bus.PostMessages(iter([PostMessagesRequest(posts=batch)])):
            pass
        await live.until(lambda: len(live.seqs("counted")) == 7)
        after = await until_scraped(
            server,
            lambda found: (
                found.value("threadbus_messages_delivered_total")
                >= before.value("threadbus_messages_delivered_total") + 7
            ),
        )

    def grown(name: str, **labels: str) -> float:
        return after.value(name, **labels) - before.value(name, **labels)

    assert grown("threadbus_messages_posted_total") == 7
    assert grown("threadbus_messages_delivered_total") == 7
    assert grown("threadbus_wake_seconds_count") == 4
    assert 0 < grown("threadbus_wake_seconds_sum") < 40
    assert grown("threadbus_commit_seconds_count") >= 4
    assert grown("threadbus_commit_seconds_sum") > 0
    assert grown("threadbus_batch_posts_count") == 4
    assert grown("threadbus_batch_posts_sum") == 7
    assert after.value("threadbus_open_waits") == 1

    def called(name: str, method: str, **labels: str) -> float:
        return after.call(name, method, **labels) - before.call(name, method, **labels)

    assert called("grpc_server_started_total", "PostMessage") == 3
    assert called("grpc_server_handled_total", "PostMessage", grpc_code="OK") == 3
    assert called("grpc_server_handling_seconds_count", "PostMessage") == 3
    assert called("grpc_server_msg_received_total", "PostMessages") == 1
    assert called("grpc_server_msg_sent_total", "PostMessages") == 1
    assert called("grpc_server_started_total", "WaitMessages", grpc_type="server_stream") == 1
    assert called("grpc_server_handled_total", "WaitMessages") == 0
    assert called("grpc_server_msg_sent_total", "WaitMessages") == 6
    left = await until_scraped(
        server,
        lambda found: (
            found.call("grpc_server_handled_total", "WaitMessages", grpc_code="Canceled")
            > after.call("grpc_server_handled_total", "WaitMessages", grpc_code="Canceled")
        ),
    )
    assert left.value("threadbus_open_waits") == 0


async def test_refusals_are_counted_by_reason_and_code(
    server: ServerProcess, client: Connection
) -> None:
    before = await quiet(server, client)
    health: Any = HealthStub(client.channel)
    await refused(client.threads.GetThread(GetThreadRequest(thread="missing")))
    await refused(client.bus.GetMessage(GetMessageRequest(thread="missing")))
    await refused(health.Check(HealthCheckRequest(service="missing")))
    posts = [PostMessageRequest(thread=name, content="x") for name in ("missing", "Not valid")]
    async for _ in client.bus.PostMessages(iter([PostMessagesRequest(posts=posts)])):
        pass
    after = await until_scraped(
        server,
        lambda found: (
            found.call("grpc_server_handled_total", "PostMessages")
            > before.call("grpc_server_handled_total", "PostMessages")
        ),
    )
    grown = {
        reason: after.value("threadbus_rejections_total", reason=reason)
        - before.value("threadbus_rejections_total", reason=reason)
        for reason in ("THREAD_NOT_FOUND", "VALIDATION_FAILED", "ACCESS_DENIED")
    }
    assert grown == {"THREAD_NOT_FOUND": 2, "VALIDATION_FAILED": 2, "ACCESS_DENIED": 0}
    name = "grpc_server_handled_total"
    for method, code in (("GetThread", "NotFound"), ("GetMessage", "InvalidArgument")):
        grown_by = after.call(name, method, grpc_code=code) - before.call(
            name, method, grpc_code=code
        )
        assert grown_by == 1
    assert after.call(name, "Check", grpc_code="NotFound") >= 1


async def test_agents_and_requests_are_counted(start_server: StartServer) -> None:
    server = start_server(*FLAGS)  # whose agents are those of no other test
    async with connected(server.address, "asked") as client:
        ann = await register(client.agents, "ann")
        await register(client.agents, "ben")
        for within in (Duration(nanos=1_000_000), Duration(seconds=3_600)):
            asks = ExpectReply(agents=["ben"], within=within)
            asking = PostMessageRequest(thread="asked", content="?", expect_reply=asks)
            await client.bus.PostMessage(asking, metadata=ann.metadata)
        async with open_wait(client.bus, "asked", metadata=ann.metadata):
            await until_scraped(
                server,
                lambda found: (
                    found.value("threadbus_requests_open") == 2
                    and found.value("threadbus_requests_overdue") == 1
                    and found.value("threadbus_agents", presence="IDLE") == 1
                    and found.value("threadbus_agents", presence="WORKING") == 1
                ),
            )


@pytest.mark.slow
async def test_a_write_that_waits_for_the_store_shows(
    server: ServerProcess, client: Connection
) -> None:
    await client.threads.CreateThread(CreateThreadRequest(thread="queued"))
    with locked(server.db):
        posting = asyncio.create_task(post(client, "queued"))
        await until_scraped(
            server,
            lambda found: (
                found.value("threadbus_queued_posts") == 1
                and found.value("threadbus_queued_bytes") > 0
                and found.value("threadbus_store_lag_seconds") > 0
            ),
        )
    await posting
    found = await until_scraped(server, lambda found: not found.value("threadbus_queued_posts"))
    assert found.value("threadbus_store_lag_seconds") == 0
    assert found.value("threadbus_store_failing") == 0


async def test_no_name_or_address_is_in_the_metrics(
    server: ServerProcess, client: Connection
) -> None:
    hostile, refusals = "hostile.name-1", {"method": "GetThread", "grpc_code": "InvalidArgument"}
    before = (await quiet(server, client)).call("grpc_server_handled_total", **refusals)
    agent = await register(client.agents, hostile)
    await client.threads.CreateThread(CreateThreadRequest(thread=hostile))
    async with open_wait(client.bus, hostile, metadata=agent.metadata) as live:
        await post(client, hostile, request_id="hostile-request", labels={"hostile": "label"})
        await live.until(lambda: live.seqs(hostile) == [1])
        for path in (
            "/threadbus.v1.BusService/Hostile",
            '/threadbus.hostile"} 1\n# HELP/x',
            "/hostile.Service/Method",
            "/threadbus.v1.hostile",
        ):
            unknown: Any = client.channel.unary_unary(path)
            with contextlib.suppress(ValueError):  # the client refuses some
                refusal = await refused(unknown(b"hostile"))
                assert refusal.code is grpc.StatusCode.UNIMPLEMENTED
        await refused(client.threads.GetThread(GetThreadRequest(thread='hostile"} 1\n')))
        found = await until_scraped(
            server, lambda found: found.call("grpc_server_handled_total", **refusals) > before
        )
    assert "hostile" not in found.text.lower()
    assert "127.0.0.1" not in found.text


async def test_only_metrics_are_served(server: ServerProcess) -> None:
    code, headers, body = await asyncio.to_thread(request, server, "GET", "/metrics?x=1")
    assert (code, headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert b"threadbus_info{" in body
    code, headers, body = await asyncio.to_thread(request, server, "HEAD", "/metrics")
    assert (code, body, int(headers["Content-Length"]) > 1_000) == (200, b"", True)
    assert "Python" not in headers["Server"]
    for method, path, expected in (
        ("GET", "/", 404),
        ("GET", "/metrics/", 404),
        ("GET", "/../etc/passwd", 404),
        ("POST", "/metrics", 501),
        ("DELETE", "/metrics", 501),
    ):
        code, _, body = await asyncio.to_thread(request, server, method, path)
        assert (code, b"The metrics are at /metrics." in body) == (expected, expected == 404)


@pytest.mark.slow
@pytest.mark.parametrize(
    "sent",
    [
        b"\r\n\r\n",
        b"\xff" * 100 + b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9.9\r\n\r\n",
        b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
    ids=["empty", "bytes", "short", "version", "long", "headers", "http2"],
)
async def test_a_malformed_request_is_refused(server: ServerProcess, sent: bytes) -> None:
    def talk() -> bytes:
        # The server may have closed it already.
        with connect(server) as opened, contextlib.suppress(OSError):
            opened.sendall(sent)
            opened.shutdown(socket.SHUT_WR)
            return opened.makefile("rb").read()
        return b""

    answer = await asyncio.to_thread(talk)
    assert b" 200 " not in answer.partition(b"\n")[0]
    assert "threadbus_info" in await asyncio.to_thread(fetch, server)


@pytest.mark.slow
async def test_slow_clients_hold_up_neither_scrapes_nor_the_bus(
    server: ServerProcess, client: Connection
) -> None:
    await client.threads.CreateThread(CreateThreadRequest(thread="slow"))
    with contextlib.ExitStack() as opened:
        for number in range(100):
            slow = opened.enter_context(connect(server))
            slow.sendall(b"GET /metrics HTTP/1.1\r\nHost:" if number % 2 else b"")
        found = await scrape(server)
        assert found.value("threadbus_store_failing") == 0
        await post(client, "slow")
        assert len(list(Path(f"/proc/{server.pid}/task").iterdir())) < 70


@pytest.mark.slow
async def test_beyond_loopback_metrics_need_no_flag(start_server: StartServer) -> None:
    server = start_server("--metrics", "0.0.0.0:0")
    assert url(server).startswith("http://0.0.0.0:")
    assert "threadbus_info" in await asyncio.to_thread(fetch, server)
    assert server.stop() == 0
    assert not server.problems


@pytest.mark.slow
@pytest.mark.parametrize("address", ["9464", ":9464", "127.0.0.1", "127.0.0.1:x", "no.invalid:1"])
def test_an_address_that_cannot_be_used_is_refused(tmp_path: Path, address: str) -> None:
    line = refused_start(tmp_path / "bus.db", "--metrics", address)
    assert f"--metrics {address}: " in line
    assert contents(tmp_path) == {}


@pytest.mark.slow
async def test_a_port_that_is_taken_is_refused(server: ServerProcess, tmp_path: Path) -> None:
    taken = urlsplit(url(server)).netloc
    line = await asyncio.to_thread(refused_start, tmp_path / "bus.db", "--metrics", taken)
    assert f"--metrics {taken}: " in line
    assert "in use" in line


@pytest.mark.slow
def test_without_the_extra_it_is_said_what_to_install(tmp_path: Path) -> None:
    missing = "raise ModuleNotFoundError('no', name='prometheus_client')"
    (tmp_path / "prometheus_client.py").write_text(missing)
    path = f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    flags = ("--db", str(tmp_path / "bus.db"), "--listen", "127.0.0.1:0", *FLAGS)
    done = subprocess.run(
        [sys.executable, "-m", "bus_server", *flags],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "--metrics needs prometheus_client" in done.stderr
    assert install_command("server,metrics") in done.stderr
