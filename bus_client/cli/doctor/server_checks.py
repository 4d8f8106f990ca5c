"""Checks of the server over the network, and of the caller's identity."""

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
from bus_client.cli.health import ADVICE, is_serving

if TYPE_CHECKING:
    from bus_client import BusClient, Message, ThreadHandle
    from bus_client.cli.session import Session
    from threadbus.v1.bus_service_pb2 import GetServerInfoResponse

_SAMPLES = 5  # for each measurement
_SKEW = 1.0  # seconds between the two clocks; more is a warning
_SLOW = 0.25  # seconds for a wake-up; more is a warning


@dataclass(frozen=True, slots=True)
class _Sample:
    info: GetServerInfoResponse
    round_trip: float  # seconds
    ahead: float  # seconds that the server's clock is ahead of ours


async def server_checks(session: Session, bus: BusClient) -> AsyncGenerator[Check]:
    """Yields the checks of the server, and of the identity that `session` has there.

    Args:
        session: The caller's options.
        bus: An anonymous client of the server.

    Raises:
        BusError: A call failed; in most cases, the server no longer responds.
    """
    sample = await _quickest_sample(bus)
    server = await _server(session, sample)
    yield server
    yield _durability(sample.info)
    yield _clock(sample)
    if server.status == "failure":
        for name in ("identity", "wake-up"):
            yield Check(name, "skipped", "the server is not serving", "Repeat this when it is.")
        return
    async with AsyncExitStack() as connections:
        identity, caller = await _identity(session, sample.info, connections)
        yield identity
        yield await _wake_up(caller or bus, session.timeout)


async def _quickest_sample(bus: BusClient) -> _Sample:
    """Returns the sample with the shortest round trip: it compares the clocks most exactly."""
    samples = []
    for _ in range(_SAMPLES):
        began, sent = time.monotonic(), time.time()
        info = await bus.server_info()
        round_trip = time.monotonic() - began
        server_time = info.server_time.seconds + info.server_time.nanos / 1e9
        samples.append(_Sample(info, round_trip, server_time - (sent + round_trip / 2)))
    return min(samples, key=lambda sample: sample.round_trip)


async def _server(session: Session, sample: _Sample) -> Check:
    theirs, ours = sample.info.version, metadata.version("threadbus")
    finding = f"{session.server} answers in {_ms(sample.round_trip)}, version {theirs or 'unknown'}"
    if not await is_serving(session):
        return Check(
            "server",
            "failure",
            f"{finding}, but reports that it is not serving",
            ADVICE,
        )
    if theirs != ours:
        return Check(
            "server",
            "warning",
            f"{finding}; this program is version {ours}",
            "Upgrade the older of the two. If that is the server, restart it.",
        )
    return Check("server", "ok", finding)


def _durability(info: GetServerInfoResponse) -> Check:
    if info.durability == "fast":
        return Check(
            "durability",
            "warning",
            "fast: posts survive a killed server, but the newest may be lost in a machine crash",
            "Start the server with --durability full if acknowledged posts must be on disk.",
        )
    return Check("durability", "ok", f"{info.durability}: an acknowledged post is on disk")


def _clock(sample: _Sample) -> Check:
    if not sample.info.HasField("server_time"):
        return Check(
            "clock", "skipped", "the server does not report its time", "Upgrade the server."
        )
    size, direction = abs(sample.ahead), "ahead of" if sample.ahead > 0 else "behind"
    if size <= _SKEW:
        return Check("clock", "ok", f"within {_SKEW:g} s of the server's")
    return Check(
        "clock",
        "warning",
        f"the server's is {size:,.1f} s {direction} this machine's",
        "Synchronise both with NTP: messages carry the server's time.",
    )


async def _identity(
    session: Session, info: GetServerInfoResponse, connections: AsyncExitStack
) -> tuple[Check, BusClient | None]:
    """Returns the check of the caller's identity, and a client with the caller's token.

    The client is closed with `connections`; it is None if there is no token, or no valid one.

    Raises:
        BusError: A call failed, other than because of the token.
    """
    token = session.token
    if token is None and session.agent is not None:
        try:
            path = credentials.default_path()
            token = credentials.kept_token(path, session.server, session.agent)
        except bus_client.CredentialsError as error:
            return Check(
                "identity", "failure", str(error), "Repair the file, or move it away."
            ), None
        if token is None:
            finding = f"no token is stored here for {session.agent} at {session.server}"
            advice = f"Register the agent if it is new: threadbus register {session.agent}."
            return Check("identity", "warning", finding, advice), None
    if token is None:
        if "post" in info.scopes:
            return Check("identity", "ok", f"anonymous; auth {info.auth}"), None
        finding = f"auth {info.auth}: this server requires a token, and none was given"
        advice = "Add --as NAME, or pass a token with --token-file or THREADBUS_TOKEN."
        return Check("identity", "warning", finding, advice), None
    try:
        caller = await connections.enter_async_context(replace(session, token=token).connect())
        mine = await caller.server_info()
    except bus_client.Unauthenticated as error:
        advice = "Pass a valid token, or have an operator register the agent again."
        return Check("identity", "failure", error.message, advice), None
    scopes = ", ".join(mine.scopes)
    return Check("identity", "ok", f"{mine.agent}, who may {scopes}; auth {mine.auth}"), caller


async def _wake_up(bus: BusClient, timeout: float) -> Check:
    """Returns the check of how fast a post wakes a waiting client, in a thread created for it."""
    info = await bus.server_info()
    if "post" not in info.scopes:
        finding = "not measured: that needs a token that may post"
        return Check("wake-up", "skipped", finding, "Add --as NAME, or pass a token.")
    prefix = next(iter(info.thread_prefixes), "")
    name = f"{prefix[:100]}doctor-{secrets.token_hex(8)}"
    try:
        check = await _measure_wake_up(bus, name, timeout)
    finally:
        deleted = await _delete(bus.thread(name))
    if not deleted:
        advice = (
            "Its thread may have been left behind; delete it: "
            f"threadbus thread delete {name} --yes."
        )
        return replace(check, status="failure", advice=advice)
    return check


async def _measure_wake_up(bus: BusClient, name: str, timeout: float) -> Check:
    try:
        async with asyncio.timeout(timeout):
            median = statistics.median(await _times_to_wake(bus, name))
    except TimeoutError:
        finding = f"a waiting client was not woken within {timeout:g} s"
        return Check("wake-up", "failure", finding, "Read the server's log.")
    except bus_client.BusError as error:
        return Check("wake-up", "failure", error.message, error.hint or "Read the server's log.")
    finding = f"a waiting client receives a post after {_ms(median)} (median of {_SAMPLES})"
    if median > _SLOW:
        advice = "The machine is busy, its disk syncs slowly, or the network is slow."
        return Check("wake-up", "warning", finding, advice)
    return Check("wake-up", "ok", finding)


async def _times_to_wake(bus: BusClient, name: str) -> list[float]:
    thread = await bus.join(name, topic="threadbus doctor")
    times = []
    async with aclosing(thread.follow(include_own=True, acknowledge=False)) as messages:
        await thread.post("Warm-up.")
        await _arrival(messages)  # from now on, a wait is open
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
        raise bus_client.BusError("The server ended the wait early.")
    return time.monotonic()


async def _delete(thread: ThreadHandle) -> bool:
    try:
        await thread.delete()
    except bus_client.ThreadNotFound:
        pass  # it was never created
    except bus_client.BusError:
        return False
    return True


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms"
