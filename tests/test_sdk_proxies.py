"""Calls to which a proxy responds itself, with an HTTP status."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bus_client import (
    AccessDenied,
    BusClient,
    BusError,
    MessageTooLarge,
    OutcomeUnknown,
    Unauthenticated,
    Unavailable,
    Unreachable,
)
from tests.http_proxy import RefusingProxy, refusing_proxy
from tests.polling import until
from tests.script import THREAD
from tests.shell import Shell
from tests.wait_frames import BOUND
from threadbus.v1.message_pb2 import Cursor

#: The final statuses: the exception, and a part of its message.
REFUSALS: dict[int, tuple[type[BusError], str]] = {
    302: (BusError, "refuses"),
    400: (BusError, "refuses"),
    401: (Unauthenticated, "requires authentication"),
    403: (AccessDenied, "does not permit this"),
    404: (BusError, "no ThreadBus server"),
    405: (BusError, "refuses"),
    413: (MessageTooLarge, "as large as this"),
    431: (BusError, "refuses"),
}
#: The statuses that leave the outcome of a call unknown.
UNKNOWN = [408, 500, 502, 503, 504]


@contextlib.asynccontextmanager
async def behind(proxy: RefusingProxy, *, timeout: float = 30.0) -> AsyncIterator[BusClient]:
    """A client, with a time limit."""
    async with asyncio.timeout(BOUND), BusClient(proxy.address, timeout=timeout) as bus:
        yield bus


@pytest.mark.parametrize("status", REFUSALS)
async def test_a_refusal_by_the_proxy_is_raised_at_once(status: int) -> None:
    expected, text = REFUSALS[status]
    async with refusing_proxy(status) as proxy, behind(proxy) as bus:
        for call in (bus.get_thread(THREAD), bus.thread(THREAD).post("x"), bus.create_thread("x")):
            proxy.refused = 0
            with pytest.raises(expected, match=f"HTTP {status}.*{text}") as refused:
                await call
            assert type(refused.value) is expected
            assert refused.value.hint
            assert not refused.value.retryable
            assert proxy.refused == 1


@pytest.mark.parametrize("status", [401, 404])
async def test_a_refused_follow_raises_an_error(status: int) -> None:
    async with refusing_proxy(status) as proxy, behind(proxy) as bus:
        thread = bus.thread(THREAD)
        thread.position = Cursor(thread=THREAD)
        with pytest.raises(REFUSALS[status][0], match=f"HTTP {status}"):
            await anext(thread.follow())


@pytest.mark.slow
@pytest.mark.parametrize("status", UNKNOWN)
async def test_a_post_that_the_proxy_may_have_forwarded_has_an_unknown_outcome(status: int) -> None:
    async with refusing_proxy(status) as proxy, behind(proxy) as bus:
        with pytest.raises(OutcomeUnknown, match=f"HTTP {status}"):
            await bus.thread(THREAD).post("x", timeout=1.0)


@pytest.mark.slow
async def test_calls_refused_with_429_are_retried_later() -> None:
    async with refusing_proxy(429) as proxy, behind(proxy) as bus:
        with pytest.raises(Unavailable, match="no more calls") as refused:
            await bus.thread(THREAD).post("x", timeout=1.0)
        assert type(refused.value) is Unavailable  # the outcome is known
        assert proxy.refused > 1


@pytest.mark.slow
async def test_a_later_refusal_leaves_the_outcome_of_an_earlier_attempt_unknown() -> None:
    async with refusing_proxy(502) as proxy, behind(proxy) as bus:
        posting = asyncio.create_task(bus.thread(THREAD).post("x", request_id="mine"))
        await until(lambda: proxy.refused > 0)
        proxy.status = 413
        with pytest.raises(OutcomeUnknown, match="HTTP 413") as unknown:
            await posting
        assert unknown.value.request_id == "mine"


@pytest.mark.slow
async def test_a_server_that_the_proxy_cannot_reach_is_retried() -> None:
    async with refusing_proxy(502) as proxy, behind(proxy, timeout=0.5) as bus:
        with pytest.raises(Unreachable, match="HTTP 502"):
            await bus.get_thread(THREAD)
        assert proxy.refused > 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "code", "advice"), [(413, 6, "client_max_body_size"), (404, 1, "address")]
)
async def test_the_command_line_does_not_advise_to_post_it_again(
    status: int, code: int, advice: str, tmp_path: Path
) -> None:
    async with refusing_proxy(status) as proxy, asyncio.timeout(BOUND):
        shell = Shell(proxy.address, tmp_path)
        done = await asyncio.to_thread(shell.run, "post", THREAD, "x")
        assert done.code == code, done
        assert f"HTTP {status}" in done.err
        assert advice in done.err
        assert "again" not in done.err
