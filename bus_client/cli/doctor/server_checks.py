"""What `threadbus doctor` looks at over the network: the server, and who one is to it."""

from __future__ import annotations

import asyncio
import secrets
import statistics
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, replace
from importlib import metadata
from typing import TYPE_CHECKING

import bus_client
from bus_client import credentials
from bus_client.cli.doctor.check import Check

if TYPE_CHECKING:
    from bus_client import BusClient, Message, ThreadHandle
    from bus_client.cli.session import Session
    from threadbus.v1.bus_service_pb2 import GetServerInfoResponse

_SAMPLES = 5
_SKEW = 1.0  # seconds between the clocks that people do not notice
_SLOW = 0.25  # seconds to be woken that a conversation would notice
_SERVING = b"\x08\x01"  # grpc.health.v1.HealthCheckResponse(status=SERVING)


@dataclass(frozen=True, slots=True)
class _Answer:
    info: GetServerInfoResponse
    round_trip: float  # seconds
    ahead: float  # seconds that the server's clock is ahead of ours


async def server_checks(session: Session, bus: BusClient) -> AsyncGenerator[Check]:
    """Looks at the server through `bus`, connected as nobody. BusError if it goes away."""
    answer = await _quickest_answer(bus)
    yield await _server(session.server, answer)
    yield _durability(answer.info)
    yield _clock(answer)
    async with AsyncExitStack() as connections:
        identity, caller = await _identity(session, answer.info, connections)
        yield identity
        yield await _wake_up(caller or bus, session.timeout)


async def _quickest_answer(bus: BusClient) -> _Answer:
    """Of a few the one that was least held up: it tells most of the clock."""
    answers = []
    for _ in range(_SAMPLES):
        began, sent = time.monotonic(), time.time()
        info = await bus.server_info()
        round_trip = time.monotonic() - began
        server_time = info.server_time.seconds + info.server_time.nanos / 1e9
        answers.append(_Answer(info, round_trip, server_time - (sent + round_trip / 2)))
    return min(answers, key=lambda answer: answer.round_trip)


async def _server(address: str, answer: _Answer) -> Check:
    theirs, ours = answer.info.version, metadata.version("threadbus")
    finding = f"{address} answers in {_ms(answer.round_trip)}, version {theirs or 'unknown'}"
    if not await _serving(address):
        return Check(
            "server",
            "failure",
            f"{finding}, and says that it is not serving",
            "It is stopping: wait for the next one, or start it with threadbus serve.",
        )
    if theirs != ours:
        return Check(
            "server",
            "warning",
            f"{finding}; this program is {ours}",
            "Bring the older one up to date; a server has to be started anew for it.",
        )
    return Check("server", "ok", finding)


async def _serving(address: str) -> bool:
    """What the server's health service says; a server without one serves if it answers."""
    import grpc.aio

    from bus_client.channel import open_channel
    from bus_client.status import from_rpc_error

    async with open_channel(address) as channel:
        # Two bytes: not worth a dependency, which grpcio-health-checking would be.
        check: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            "/grpc.health.v1.Health/Check"
        )
        try:
            return await check(b"", timeout=5.0) == _SERVING
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                return True
            raise from_rpc_error(error) from None


def _durability(info: GetServerInfoResponse) -> Check:
    if info.durability == "fast":
        return Check(
            "durability",
            "warning",
            "fast: posts outlive a killed server, but the newest may be lost with the machine",
            "Start the server with --durability full if an acknowledged post must be on disk.",
        )
    return Check("durability", "ok", f"{info.durability}: an acknowledged post is on disk")


def _clock(answer: _Answer) -> Check:
    if not answer.info.HasField("server_time"):
        return Check("clock", "skipped", "the server does not tell its time", "Upgrade the server.")
    size, direction = abs(answer.ahead), "ahead of" if answer.ahead > 0 else "behind"
    if size <= _SKEW:
        return Check("clock", "ok", f"within {_SKEW:g} s of the server's")
    return Check(
        "clock",
        "warning",
        f"the server's is {size:,.1f} s {direction} this machine's",
        "Set both by a time server (NTP): messages carry the server's time.",
    )


async def _identity(
    session: Session, info: GetServerInfoResponse, connections: AsyncExitStack
) -> tuple[Check, BusClient | None]:
    """Who the caller is; and its connection, if it has a token that works."""
    token = session.token
    if token is None and session.agent is not None:
        try:
            path = credentials.default_path()
            token = credentials.kept_token(path, session.server, session.agent)
        except bus_client.CredentialsError as error:
            return Check("identity", "failure", str(error), "Mend it, or move it away."), None
        if token is None:
            finding = f"no token is kept here for {session.agent} at {session.server}"
            advice = f"threadbus register {session.agent} registers it, where it is not yet."
            return Check("identity", "warning", finding, advice), None
    if token is None:
        if "post" in info.scopes:
            return Check("identity", "ok", f"anonymous; auth {info.auth}"), None
        finding = f"auth {info.auth}: this server wants a token, and none was given"
        advice = "Say --as NAME, or pass a token with --token-file or THREADBUS_TOKEN."
        return Check("identity", "warning", finding, advice), None
    try:
        caller = await connections.enter_async_context(replace(session, token=token).connect())
        mine = await caller.server_info()
    except bus_client.Unauthenticated as error:
        advice = "Pass the right token, or have an operator register the agent again."
        return Check("identity", "failure", error.message, advice), None
    scopes = ", ".join(mine.scopes)
    return Check("identity", "ok", f"{mine.agent}, who may {scopes}; auth {mine.auth}"), caller


async def _wake_up(bus: BusClient, timeout: float) -> Check:
    """How long after a post one who waits has it, in a thread that is there only for this."""
    info = await bus.server_info()
    if "post" not in info.scopes:
        finding = "not tried: it takes a token that may post"
        return Check("wake-up", "skipped", finding, "Say --as NAME, or pass a token.")
    name = f"doctor-{secrets.token_hex(8)}"
    try:
        check = await _woken(bus, name, timeout)
    finally:
        deleted = await _delete(bus.thread(name))
    if not deleted:
        advice = f"It left its thread behind: threadbus thread delete {name} --yes."
        return replace(check, status="failure", advice=advice)
    return check


async def _woken(bus: BusClient, name: str, timeout: float) -> Check:
    try:
        async with asyncio.timeout(timeout):
            median = statistics.median(await _times_to_wake(bus, name))
    except TimeoutError:
        finding = f"one who waits was not woken within {timeout:g} s"
        return Check("wake-up", "failure", finding, "See what the server logs.")
    except bus_client.BusError as error:
        return Check("wake-up", "failure", error.message, error.hint or "See what it logs.")
    finding = f"one who waits has a post after {_ms(median)} (median of {_SAMPLES})"
    if median > _SLOW:
        advice = "The machine is busy, its disk is slow to sync, or the network is long."
        return Check("wake-up", "warning", finding, advice)
    return Check("wake-up", "ok", finding)


async def _times_to_wake(bus: BusClient, name: str) -> list[float]:
    thread = await bus.join(name, topic="threadbus doctor")
    times = []
    async with aclosing(thread.follow(include_own=True, acknowledge=False)) as messages:
        await thread.post("Is anybody waiting?")
        await _arrival(messages)  # from now on a wait is open
        for _ in range(_SAMPLES):
            arrival = asyncio.create_task(_arrival(messages))
            began = time.monotonic()
            try:
                await thread.post("Wake up.")
                times.append(await arrival - began)
            finally:
                arrival.cancel()
                await asyncio.wait([arrival])
    return times


async def _arrival(messages: AsyncGenerator[Message]) -> float:
    if await anext(messages, None) is None:
        raise bus_client.BusError("The server ended the wait of one who is told of posts.")
    return time.monotonic()


async def _delete(thread: ThreadHandle) -> bool:
    try:
        await thread.delete()
    except bus_client.ThreadNotFound:
        pass  # it was never made
    except bus_client.BusError:
        return False
    return True


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms"
