"""serve --otel, and agents that use OpenTelemetry: their spans form one trace."""

import asyncio
import os
import socket
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.callers import operator
from tests.collector import Collector, Spanned, collecting, ids
from tests.connections import connected
from tests.open_wait import OpenWait, open_wait, open_waits, wait_request
from tests.peers import Peer
from tests.polling import until
from tests.ports import free_port
from tests.refusals import refused
from tests.refused_start import contents, refused_start
from tests.serving import BusStub, ServerProcess
from tests.test_traceparents import post, traceparents
from tests.wait_frames import BOUND
from threadbus.extras import install_command
from threadbus.v1.bus_service_pb2 import (
    GetMessageRequest,
    GetServerInfoRequest,
    PostMessageRequest,
)

POST, COMMIT, DELIVER = "threadbus.v1.BusService/PostMessage", "commit", "deliver"
MESSAGE = PostMessageRequest(thread="no-such-thread", content="x")

pytestmark = pytest.mark.usefixtures("chosen_store")


@pytest.fixture(scope="module")
async def collector() -> AsyncIterator[Collector]:
    async with collecting() as running:
        yield running


@pytest.fixture(scope="module")
def server(
    collector: Collector, tmp_path_factory: pytest.TempPathFactory, chosen_store: None
) -> Iterator[ServerProcess]:
    """This module's server, which sends its spans to the collector."""
    db = tmp_path_factory.mktemp("server") / "bus.db"
    with ServerProcess(db, "--otel", environment=collector.environment) as running:
        yield running
        assert not running.problems


def of(collector: Collector, traceparent: str) -> list[Spanned]:
    """Returns the spans of a trace."""
    return [span for span in collector.spans if span.trace == ids(traceparent)[:32]]


def one(spans: Iterable[Spanned], name: str) -> Spanned:
    """Returns the only one of these spans with a name."""
    [found] = [span for span in spans if span.name == name]
    return found


async def run_agents(server: ServerProcess, collector: Collector, folder: Path, name: str) -> None:
    """Run the two agents to their end."""
    variables = {"OTEL_SERVICE_NAME": "agents", **collector.environment}
    agents = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.traced_agents", server.address, str(folder), name),
        env={**os.environ, **variables},
    )
    try:
        async with asyncio.timeout(BOUND):
            assert await agents.wait() == 0
    finally:
        if agents.returncode is None:
            agents.kill()


@pytest.mark.slow
async def test_a_request_its_deliveries_and_the_reply_form_one_trace(
    server: ServerProcess, collector: Collector, bus: BusStub, thread: str, tmp_path: Path
) -> None:
    await run_agents(server, collector, tmp_path, thread)
    messages = {each.content: each for each in await Peer(bus).read(thread)}
    sent = f"send {thread}"
    request, reply = messages["please review"], messages["at once"]
    [many] = await collector.named("many")

    # The span of the last call: spans are sent in the order in which they end.
    def last_calls() -> list[Spanned]:
        return [each for each in collector.spans if (each.trace, each.name) == (many.trace, POST)]

    await until(lambda: bool(last_calls()))
    [task] = await collector.named("task")
    assert (task.service, task.parent) == ("agents", "")

    # The request.
    send = one(collector.below(task), sent)
    assert send.ids == ids(request.traceparent)
    assert (send.kind, send.service) == ("PRODUCER", "agents")
    assert send.attributes["messaging.message.id"] == "2"
    assert send.attributes["threadbus.agent"] == "coder"
    call, deliver, receive = (
        one(collector.below(send), name) for name in (POST, DELIVER, f"receive {thread}")
    )
    commit = one(collector.below(call), COMMIT)
    assert (call.kind, call.service, commit.service) == ("SERVER", "threadbus", "threadbus")
    assert call.attributes == {
        "rpc.system.name": "grpc",
        "rpc.method": POST,
        "rpc.response.status_code": "OK",
        "threadbus.agent": "coder",
    }
    names = {
        "messaging.system": "threadbus",
        "messaging.destination.name": thread,
        "messaging.message.id": "2",
    }
    assert commit.attributes == {**names, "threadbus.batch_commands": 1}
    assert deliver.attributes == {**names, "threadbus.agent": "reviewer"}
    assert receive.kind == "CONSUMER"
    assert receive.attributes.items() >= names.items()
    assert receive.attributes["threadbus.agent"] == "reviewer"
    assert call.start <= commit.start <= commit.end <= call.end
    assert commit.start < deliver.start < deliver.end

    # The reply, and what else the reviewer posts.
    assert {each.ids for each in collector.below(receive)} == {
        ids(messages[content].traceparent) for content in ("at once", "after it")
    }
    again = one((each for each in collector.spans if each.ids == ids(reply.traceparent)), sent)
    assert {each.name for each in collector.below(again)} >= {POST, f"receive {thread}"}
    [other], [review] = await collector.named("other work"), await collector.named("review")
    assert one(collector.below(other), sent).ids == ids(messages["other work"].traceparent)
    assert (other.parent, other.trace != task.trace) == ("", True)
    assert (review.trace, review.parent) == (send.trace, send.id)
    assert one(collector.below(review), sent).ids == ids(messages["reviewed"].traceparent)

    # The last message that the coder received has a trace of the server's.
    last = messages["of no trace of ours"].traceparent
    begun = [each for each in of(collector, last) if not each.parent]
    assert [(each.name, each.ids) for each in begun] == [(POST, ids(last))]
    assert ids(messages["thank you"].traceparent)[:32] == begun[0].trace

    # Several posts have one span, as has the stream; a post that is refused has a failed one.
    several, refused = sorted(
        (each for each in collector.below(many) if each.name == sent), key=lambda each: each.start
    )
    assert {ids(messages[each].traceparent) for each in "ab"} == {several.ids}
    stream = one(collector.below(several), "threadbus.v1.BusService/PostMessages")
    assert one(collector.below(stream), COMMIT).attributes["messaging.batch.message_count"] == 2
    update = one(collector.below(many), f"update {thread}")
    assert one(collector.below(update), "threadbus.v1.ThreadService/UpdateThread")
    assert (several.failed, refused.failed) == (False, True)
    attributes = one(collector.below(refused), POST).attributes
    assert refused.attributes["error.type"] == attributes["error.type"] == "VALIDATION_FAILED"


async def test_a_post_of_no_trace_begins_one(
    collector: Collector, bus: BusStub, thread: str
) -> None:
    anyone = Peer(bus)
    async with open_wait(bus, thread) as wait:
        await wait.until(lambda: wait.kinds()[-1] == "caught_up")
        await anyone.post(thread, "a secret text", request_id="other secret")
        await anyone.read(thread)
        [traceparent] = await traceparents(anyone, thread)
        await until(lambda: len(of(collector, traceparent)) == 3)
    spans = of(collector, traceparent)
    call = one(spans, POST)
    assert (call.parent, call.ids) == ("", ids(traceparent))
    assert {(each.name, each.parent) for each in spans} == {
        (POST, ""),
        (COMMIT, call.id),
        (DELIVER, call.id),
    }
    assert "threadbus.agent" not in one(spans, DELIVER).attributes
    assert "secret" not in collector.text


async def test_calls_that_append_nothing_have_spans_only_in_traces(
    collector: Collector, bus: BusStub, thread: str
) -> None:
    await Peer(bus).post(thread, "x")
    request = GetMessageRequest(thread=thread, seq=1)
    await bus.GetMessage(request)
    sampled, not_sampled = new_traceparent("01"), new_traceparent("00")
    for traceparent in (not_sampled, sampled):
        await bus.GetMessage(request, metadata=(("traceparent", traceparent),))
        await post(Peer(bus), thread, traceparent)
    [read] = await collector.named("threadbus.v1.BusService/GetMessage")
    assert read in of(collector, sampled)
    assert (await traceparents(Peer(bus), thread))[1:] == [not_sampled, sampled]
    await until(lambda: len(of(collector, sampled)) == 3)
    assert not of(collector, not_sampled)


def new_traceparent(flags: str) -> str:
    return f"00-{uuid.uuid4().hex}-00f067aa0ba902b7-{flags}"


async def test_a_call_that_is_refused_has_a_span_that_says_why(
    collector: Collector, bus: BusStub
) -> None:
    traceparent = new_traceparent("01")
    with pytest.raises(grpc.aio.AioRpcError):
        await post(Peer(bus), "no-such-thread", traceparent)
    await until(lambda: bool(of(collector, traceparent)))
    [span] = of(collector, traceparent)
    assert span.attributes["rpc.response.status_code"] == "NOT_FOUND"
    assert span.attributes["error.type"] == "THREAD_NOT_FOUND"
    assert not span.failed  # it is the caller's fault


def all_have(waits: Iterable[OpenWait], messages: int) -> bool:
    """Returns whether each of these waits has received so many messages."""
    return all(len(wait.messages) == messages for wait in waits)


@pytest.mark.slow
async def test_of_many_waits_a_hundred_have_spans(
    collector: Collector, bus: BusStub, thread: str
) -> None:
    traceparent, last = new_traceparent("01"), new_traceparent("01")
    async with open_waits(bus, [wait_request([thread])] * 110) as waits:
        await until(lambda: all(wait.kinds()[-1] == "caught_up" for wait in waits))
        for seq, sent in enumerate((traceparent, last), start=1):
            await post(Peer(bus), thread, sent)
            await until(partial(all_have, waits, seq))
    await until(lambda: len(of(collector, last)) == 102)
    assert len([each for each in of(collector, traceparent) if each.name == DELIVER]) == 100


async def test_a_caller_cannot_name_spans(
    channel: grpc.aio.Channel, collector: Collector, bus: BusStub, thread: str
) -> None:
    traceparent = new_traceparent("01")
    unknown: Any = channel.unary_unary("/threadbus.v1.BusService/Anything")
    with pytest.raises(grpc.aio.AioRpcError, match="no method"):
        await unknown(b"", metadata=(("traceparent", traceparent),))
    await post(Peer(bus), thread, traceparent)
    await until(lambda: len(of(collector, traceparent)) == 2)
    assert {each.name for each in of(collector, traceparent)} == {POST, COMMIT}


@pytest.mark.slow
async def test_where_tokens_are_required_strangers_make_no_spans(
    collector: Collector, tmp_path: Path
) -> None:
    flags = ("--otel", "--auth", "required")
    traceparent = ("traceparent", new_traceparent("01"))
    with ServerProcess(tmp_path / "bus.db", *flags, environment=collector.environment) as server:
        boss = operator(server)
        async with connected(server.address) as client:
            for token in ((), (("authorization", "Bearer not-a-token"),)):
                refusal = await refused(
                    client.bus.PostMessage(MESSAGE, metadata=(*token, traceparent))
                )
                assert refusal.reason == "TOKEN_INVALID"
            await client.bus.GetServerInfo(GetServerInfoRequest(), metadata=(traceparent,))
            for _ in range(2):  # a span that is refused, too, is one of a caller who is known
                metadata = (*boss.metadata, traceparent)
                assert (await refused(client.bus.PostMessage(MESSAGE, metadata=metadata))).reason
        await until(lambda: len(of(collector, traceparent[1])) == 2)
        names = [each.attributes.get("threadbus.agent") for each in of(collector, traceparent[1])]
        assert names == ["operator"] * 2


@pytest.mark.slow
async def test_a_switched_off_sdk_leaves_messages_without_a_trace(
    collector: Collector, tmp_path: Path
) -> None:
    variables = {**collector.environment, "OTEL_SDK_DISABLED": "true"}
    with ServerProcess(tmp_path / "bus.db", "--otel", environment=variables) as server:
        async with connected(server.address, "here") as client:
            sent = new_traceparent("01")
            await Peer(client.bus).post("here", "x")
            await post(Peer(client.bus), "here", sent)
            assert await traceparents(Peer(client.bus), "here") == ["", sent]


@pytest.mark.slow
async def test_a_collector_that_never_answers_holds_up_no_stop(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        variables = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{silent.getsockname()[1]}",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "600",  # far longer than ServerProcess.stop waits
        }
        with ServerProcess(tmp_path / "bus.db", "--otel", environment=variables) as server:
            async with connected(server.address, "here") as client:
                for _ in range(20):
                    await Peer(client.bus).post("here", "x")
            connection, _ = await asyncio.to_thread(silent.accept)  # it is sending
            with connection:
                assert await asyncio.to_thread(server.stop) == 0


@pytest.mark.slow
@pytest.mark.usefixtures("chosen_store")
async def test_a_server_without_its_collector_serves_and_stops(tmp_path: Path) -> None:
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}"}
    with ServerProcess(tmp_path / "bus.db", "--otel", environment=variables) as server:
        async with connected(server.address, "here") as client:
            for _ in range(20):
                await Peer(client.bus).post("here", "x")
        assert await asyncio.to_thread(server.stop) == 0
        assert sum("OpenTelemetry: " in line for line in server.log) == 1, server.log


@pytest.mark.slow
@pytest.mark.usefixtures("chosen_store")
async def test_a_sampler_chooses_the_traces(collector: Collector, tmp_path: Path) -> None:
    variables = {
        **collector.environment,
        "OTEL_SERVICE_NAME": "sampled",
        "OTEL_TRACES_SAMPLER": "parentbased_always_off",
    }
    with ServerProcess(tmp_path / "bus.db", "--otel", environment=variables) as server:
        async with connected(server.address, "here") as client:
            await Peer(client.bus).post("here", "of no trace")
            sampled = new_traceparent("01")
            await post(Peer(client.bus), "here", sampled)
            first, second = await traceparents(Peer(client.bus), "here")
            await until(lambda: bool(of(collector, sampled)))
    assert (int(first[-2:], 16) & 1, second) == (0, sampled)
    ours = [each for each in collector.spans if each.service == "sampled"]
    assert {each.trace for each in ours} == {ids(sampled)[:32]}


@pytest.mark.slow
def test_an_exporter_that_is_not_installed_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    said = refused_start(tmp_path / "bus.db", "--otel")
    assert said == (
        "threadbus: --otel: OpenTelemetry's exporter otlp_proto_http is not installed: "
        "install opentelemetry-exporter-otlp-proto-http\n"
    )
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    said = refused_start(tmp_path / "bus.db", "--otel")
    assert said.endswith("none is not installed: OTEL_TRACES_EXPORTER can be otlp or console\n")
    assert not contents(tmp_path)


@pytest.mark.slow
def test_without_the_extra_it_is_said_what_to_install(tmp_path: Path) -> None:
    missing = "raise ModuleNotFoundError('no', name='opentelemetry')"
    (tmp_path / "opentelemetry.py").write_text(missing)
    path = f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    flags = ("--db", str(tmp_path / "bus.db"), "--listen", "127.0.0.1:0", "--otel")
    done = subprocess.run(
        [sys.executable, "-m", "bus_server", *flags],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "--otel needs opentelemetry" in done.stderr
    assert install_command("server,otel") in done.stderr
