"""What the SDK and the command line do if the server limits how often they post."""

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from bus_client import BusClient, BusError, OutcomeUnknown, Post, RateLimited
from tests.conftest import StartServer
from tests.members import contents, member
from tests.relay import relay_to
from tests.script import THREAD, Failure, scripted
from tests.serving import ServerProcess
from tests.shell import Shell
from threadbus.v1.bus_service_pb2 import PostMessageRequest, PostMessageResponse

LIMITED = Failure(
    grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED", {"limit": "60"}, retry_delay=0.3
)
LOST = Failure(grpc.StatusCode.UNAVAILABLE)


def failures(results: list[PostMessageResponse | BusError]) -> list[BusError]:
    return [result for result in results if isinstance(result, BusError)]


async def test_a_post_that_is_one_too_many_is_sent_again_after_the_delay() -> None:
    async with scripted() as script, BusClient(script.address) as bus:
        for _ in range(2):
            script.answer("PostMessage", LIMITED)
        script.answer("PostMessage", PostMessageResponse(thread=THREAD, seq=7))
        assert (await bus.thread(THREAD).post("x")).seq == 7
        times = [at for at, request in script.requests if isinstance(request, PostMessageRequest)]
        assert times[1] - times[0] >= 0.3
        assert times[2] - times[1] >= 0.3
        assert len({post.request_id for post in script.asked(PostMessageRequest)}) == 1


async def test_a_delay_beyond_the_timeout_is_an_error_at_once() -> None:
    async with scripted() as script, BusClient(script.address) as bus:
        script.answer("PostMessage", dataclasses.replace(LIMITED, retry_delay=20.0))
        began = time.monotonic()
        with pytest.raises(RateLimited) as limited:
            await bus.thread(THREAD).post("x", timeout=15)
        assert time.monotonic() - began < 5
        assert (limited.value.retry_delay, limited.value.metadata) == (20.0, {"limit": "60"})
        assert limited.value.retryable


async def test_a_post_that_was_lost_before_may_be_stored() -> None:
    async with scripted() as script, BusClient(script.address) as bus:
        script.answer("PostMessage", LOST)
        script.answer("PostMessage", dataclasses.replace(LIMITED, retry_delay=20.0))
        with pytest.raises(OutcomeUnknown) as unknown:
            await bus.thread(THREAD).post("x", timeout=5)
        assert unknown.value.reason == "RATE_LIMITED"


@pytest.mark.slow
async def test_many_posts_are_stored_once_and_in_order_though_they_are_limited(
    start_server: StartServer, name: str, tmp_path: Path
) -> None:
    server = start_server("--posts-per-minute", "1200")
    async with member(server.address, name, tmp_path) as thread:
        posts = [str(number) for number in range(1_220)]
        posts[1_203] = "\ud800"  # cannot be sent
        results = [result async for result in thread.post_many(posts)]
        assert [type(error).__name__ for error in failures(results)] == ["InvalidArgument"]
        assert isinstance(results[1_203], BusError)
        del posts[1_203]
        assert contents(await thread.messages(limit=2_000)) == posts
        found = [result.seq for result in results if isinstance(result, PostMessageResponse)]
        assert found == list(range(1, 1_220))


@pytest.mark.slow
async def test_several_clients_that_share_the_room_of_a_thread_keep_their_orders(
    start_server: StartServer, name: str, tmp_path: Path
) -> None:
    server = start_server("--posts-per-minute", "600")

    async def post(role: str) -> None:
        async with member(server.address, name, tmp_path, role=role) as thread:
            posts = (f"{role} {number:04}" for number in range(310))
            assert not failures([result async for result in thread.post_many(posts)])

    async with member(server.address, name, tmp_path) as thread, asyncio.timeout(30):
        await asyncio.gather(post("a"), post("b"))
        stored = contents(await thread.messages(limit=1_000))
    for role in "ab":
        own = [content for content in stored if content.startswith(role)]
        assert own == [f"{role} {number:04}" for number in range(310)]


async def test_posts_that_would_have_to_wait_too_long_have_that_as_their_result(
    start_server: StartServer, name: str, tmp_path: Path
) -> None:
    server = start_server("--posts-per-minute", "2")
    async with member(server.address, name, tmp_path) as thread, asyncio.timeout(10):
        posts: list[str | Post] = ["one", "two", "three", "", "five"]
        results = [result async for result in thread.post_many(posts, timeout=5)]
        assert [type(result).__name__ for result in results] == [
            *("PostMessageResponse", "PostMessageResponse", "RateLimited", "InvalidArgument"),
            "RateLimited",
        ]
        assert all(20 < (error.retry_delay or 0) <= 30 for error in failures(results)[::2])
        assert contents(await thread.messages()) == ["one", "two"]


@pytest.mark.usefixtures("chosen_store")
@pytest.mark.slow
async def test_posts_are_stored_once_though_the_limit_is_new_and_the_connection_breaks(
    tmp_path: Path, name: str
) -> None:
    server = ServerProcess(tmp_path / "bus.db")
    with server:
        async with (
            relay_to(server.address) as relay,
            member(relay.address, name, tmp_path) as thread,
        ):
            assert not failures([result async for result in thread.post_many(["0"])])
            # The client has learned that there is no limit.
            server.stop()
            server.flags = ("--posts-per-minute", "1200")
            server.start()
            posts, results = [str(number) for number in range(1, 1_221)], []
            async with contextlib.aclosing(thread.post_many(posts)) as posting:
                async for result in posting:
                    results.append(result)
                    if len(results) in (300, 1_205):
                        relay.cut()
            assert not failures(results)
            stored = contents(await thread.messages(limit=2_000))
            assert sorted(stored, key=int) == ["0", *posts]


@pytest.mark.usefixtures("chosen_store")
@pytest.mark.slow
async def test_a_post_is_sent_again_though_the_input_waits_for_its_result(
    tmp_path: Path, name: str
) -> None:
    server = ServerProcess(tmp_path / "bus.db")
    with server:
        async with member(server.address, name, tmp_path) as thread:
            assert not failures([result async for result in thread.post_many(["0"])])
            # The client has learned that there is no limit.
            server.stop()
            server.flags = ("--posts-per-minute", "60")
            server.start()
            posts = [str(number) for number in range(1, 63)]
            turn = asyncio.Semaphore()

            async def one_by_one() -> AsyncIterator[str]:
                for post in posts:
                    await turn.acquire()
                    yield post

            async for result in thread.post_many(one_by_one()):
                assert not failures([result])
                turn.release()
            assert contents(await thread.messages()) == ["0", *posts]


@pytest.mark.slow
def test_the_shell_says_how_long_to_wait(
    start_server: StartServer, name: str, tmp_path: Path
) -> None:
    server = start_server("--posts-per-minute", "1")
    shell = Shell(server.address, tmp_path)
    shell.ok("thread", "create", name)
    shell.ok("post", name, "one")
    began = time.monotonic()
    done = shell.run("post", name, "two")
    assert (done.code, done.out) == (6, "")
    said, hint = done.err.splitlines()
    assert "limited to 1 a minute" in said
    assert "retry in " in said
    assert "post again" in hint
    done = shell.run("post", name, "two", "--json")
    assert (done.code, done.error["reason"]) == (6, "RATE_LIMITED")
    assert done.error["retryable"] is True
    assert time.monotonic() - began < 20
