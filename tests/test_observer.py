"""The observer of RPCs: called once for each when it has finished, with its outcome."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from bus_server.audit import Audit
from bus_server.auth import Auth, Caller
from bus_server.budget import Budget
from bus_server.errors import ThreadNotFound
from bus_server.permissions import Rule
from bus_server.presence.changes import Changes
from bus_server.presence.token_uses import TokenUses
from bus_server.services import dispatch
from bus_server.services.admin_service import SERVICE
from bus_server.services.call import FinishedCall, Observer
from bus_server.services.call_metadata import CallMetadata
from bus_server.services.dispatch import Dispatcher
from bus_server.services.request_reader import PendingReads
from bus_server.services.standard import StandardServices
from bus_server.statistics import Statistics
from bus_server.store.interface import Store
from tests.conftest import StartServer
from tests.connections import connected
from tests.open_wait import wait_request
from tests.own_bus import opened
from tests.polling import until
from tests.refusals import refused
from tests.serving import AdminStub
from threadbus.v1.admin_service_pb2 import ListWaitsRequest, ListWaitsResponse
from threadbus.v1.admin_service_pb2_grpc import AdminServiceStub
from threadbus.v1.bus_service_pb2 import (
    GetServerInfoRequest,
    PostMessageRequest,
    PostMessagesRequest,
)
from threadbus.v1.thread_service_pb2 import CreateThreadRequest, GetThreadRequest

LIST_WAITS = "/threadbus.v1.AdminService/ListWaits"
CHECK, WATCH = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"


class Servicer:
    """Behaves as the request asks."""

    def __init__(self) -> None:
        #: Set when a call waits.
        self.waiting = asyncio.Event()

    async def ListWaits(self, request: ListWaitsRequest, _: Caller) -> ListWaitsResponse:
        if request.agent == "refuse":
            raise ThreadNotFound(["x"])
        if request.agent == "break":
            raise LookupError
        if request.agent == "wait":
            self.waiting.set()
            await asyncio.Event().wait()
        return ListWaitsResponse()

    CreateToken = ListTokens = RevokeToken = GetStatus = None  # not called here


class Recorder:
    """An observer that keeps what it gets."""

    def __init__(self) -> None:
        self.finished: list[FinishedCall] = []

    def wants(self, *, failed: bool) -> bool:
        return True

    def record(self, call: FinishedCall) -> None:
        self.finished.append(call)


@dataclass
class Observed:
    """A server in this process, and the calls that its observer received."""

    channel: grpc.aio.Channel
    servicer: Servicer
    finished: list[FinishedCall] = field(default_factory=list)

    @property
    def admin(self) -> AdminStub:
        return AdminServiceStub(self.channel)

    async def only(self) -> FinishedCall:
        """Wait until a call has finished. Returns it; there must be no other."""
        await until(lambda: bool(self.finished))
        assert len(self.finished) == 1
        return self.finished[0]


async def serve(
    store: Store, servicer: Servicer, observer: Observer
) -> tuple[grpc.aio.Server, int]:
    budget = Budget(1 << 30, timeout=10, what="it")
    dispatcher = Dispatcher(
        Auth(store, TokenUses(Changes(), store.clock), required=False),
        lambda _: None,
        PendingReads(budget, 10),
        budget,
        Audit(),
        Statistics(),
        observer=observer,
    )
    dispatcher.add(SERVICE, servicer)
    dispatcher.add_methods(StandardServices([]).methods())
    server = grpc.aio.server(interceptors=[CallMetadata()])
    server.add_generic_rpc_handlers((dispatcher,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, port


@pytest.fixture
async def observed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Observed]:
    methods = SERVICE.methods_by_name
    monkeypatch.setattr(dispatch, "RULES", {f"AdminService.{name}": Rule() for name in methods})
    recorder, servicer = Recorder(), Servicer()
    async with opened(tmp_path / "bus.db") as store:
        server, port = await serve(store, servicer, recorder)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Observed(channel, servicer, recorder.finished)
        await server.stop(0)


async def test_a_call_that_succeeds_is_reported(observed: Observed) -> None:
    before = time.time()
    await observed.admin.ListWaits(ListWaitsRequest())
    call = await observed.only()
    assert (call.method, call.code, call.reason) == (LIST_WAITS, grpc.StatusCode.OK, "")
    assert call.caller is not None
    assert call.caller.name == "anonymous"
    assert call.peer == call.caller.connection
    assert before <= call.start_time <= time.time()
    assert call.duration >= 0


async def test_a_call_that_is_refused_is_reported_with_its_reason(observed: Observed) -> None:
    await refused(observed.admin.ListWaits(ListWaitsRequest(agent="refuse")))
    call = await observed.only()
    assert (call.code, call.reason) == (grpc.StatusCode.NOT_FOUND, "THREAD_NOT_FOUND")


async def test_a_bug_is_reported(observed: Observed) -> None:
    await refused(observed.admin.ListWaits(ListWaitsRequest(agent="break")))
    call = await observed.only()
    assert (call.code, call.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")


async def test_a_call_whose_caller_is_unknown_is_reported(observed: Observed) -> None:
    metadata = (("authorization", "Bearer unknown"),)
    await refused(observed.admin.ListWaits(ListWaitsRequest(), metadata=metadata))
    call = await observed.only()
    assert (call.code, call.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID")
    assert call.caller is None
    assert call.peer.startswith("ipv4:127.0.0.1:")


async def test_a_call_that_the_client_cancels_is_reported_when_it_ends(observed: Observed) -> None:
    waiting: Any = observed.admin.ListWaits(ListWaitsRequest(agent="wait"))
    await observed.servicer.waiting.wait()
    assert observed.finished == []
    waiting.cancel()
    call = await observed.only()
    assert (call.code, call.reason) == (grpc.StatusCode.CANCELLED, "")


async def test_unary_and_streaming_health_calls_are_reported(observed: Observed) -> None:
    health: Any = HealthStub(observed.channel)
    watch = health.Watch(HealthCheckRequest())
    assert (await watch.read()).status == HealthCheckResponse.SERVING
    await refused(health.Check(HealthCheckRequest(service="x")))
    watch.cancel()
    await until(lambda: len(observed.finished) == 2)
    assert [(call.method, call.code, call.caller) for call in observed.finished] == [
        (CHECK, grpc.StatusCode.NOT_FOUND, None),
        (WATCH, grpc.StatusCode.CANCELLED, None),
    ]


async def test_names_of_unknown_methods_are_not_reported(observed: Observed) -> None:
    call: Any = observed.channel.unary_unary("/threadbus.v1.BusService/Nothing")
    await refused(call(b""))
    finished = await observed.only()
    assert (finished.method, finished.code) == ("", grpc.StatusCode.UNIMPLEMENTED)


@pytest.mark.slow
async def test_at_debug_level_each_call_is_logged_once(start_server: StartServer) -> None:
    server = start_server("--log-level", "debug")
    async with connected(server.address) as client:
        await client.threads.CreateThread(CreateThreadRequest(thread="t"))
        await refused(client.threads.GetThread(GetThreadRequest(thread="nothing")))
        wait = client.bus.WaitMessages(wait_request("t"))
        posts = PostMessagesRequest(posts=[PostMessageRequest(thread="t", content="1")])
        async for _ in client.bus.PostMessages(iter([posts])):
            pass
        await wait.read()
        wait.cancel()
        logged = [
            "CreateThread of anonymous: OK in ",
            "GetThread of anonymous: THREAD_NOT_FOUND in ",
            "PostMessages of anonymous: OK in ",
            "WaitMessages of anonymous: CANCELLED in ",
        ]
        for entry in logged:
            await until(lambda entry=entry: any(entry in line for line in server.log))  # type: ignore[misc]
        await client.bus.GetServerInfo(GetServerInfoRequest())
    assert server.stop() == 0
    for entry in [*logged, "GetServerInfo of anonymous: OK in "]:
        assert sum(entry in line for line in server.log) == 1
