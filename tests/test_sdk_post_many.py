"""ThreadHandle.post_many: in order and once, across broken connections and restarts."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from bus_client import (
    AccessDenied,
    BusClient,
    InvalidArgument,
    OutcomeUnknown,
    Post,
    SeqConflict,
    ThreadHandle,
    ThreadNotFound,
)
from tests.callers import register
from tests.conftest import StartServer
from tests.members import contents, member
from tests.polling import until_known
from tests.relay import relay_to
from tests.serving import AgentStub, BusStub, ServerProcess
from threadbus.v1.agent_service_pb2 import UnregisterAgentRequest
from threadbus.v1.bus_service_pb2 import (
    GetServerInfoRequest,
    GetServerInfoResponse,
    ListMessagesRequest,
    PostMessageResponse,
    PostMessagesRequest,
    PostMessagesResponse,
    PostResult,
)


@pytest.fixture
async def thread(server: ServerProcess, name: str, tmp_path: Path) -> AsyncIterator[ThreadHandle]:
    async with member(server.address, name, tmp_path) as joined:
        yield joined


def seqs(results: list[object]) -> list[int]:
    """Returns the seqs of the responses; 0 for an exception."""
    return [found.seq if isinstance(found, PostMessageResponse) else 0 for found in results]


async def test_texts_are_posted_in_order(thread: ThreadHandle) -> None:
    texts = [f"message {n}" for n in range(1_234)]
    results = [result async for result in thread.post_many(texts)]
    assert seqs(list(results)) == list(range(1, 1_235))
    assert contents(await thread.messages(limit=2_000)) == texts


async def test_an_empty_input_posts_nothing(thread: ThreadHandle) -> None:
    assert [result async for result in thread.post_many([])] == []


async def test_a_post_may_be_more_than_a_text(thread: ThreadHandle) -> None:
    posts: list[str | Post] = [
        "one",
        Post("two", reply_to=1, labels={"a": "b"}),
        Post("ONE", edit_of=1),
    ]
    assert seqs([result async for result in thread.post_many(posts)]) == [1, 2, 3]
    one, two, edit = await thread.messages()
    assert (two.reply_to, dict(two.labels)) == (1, {"a": "b"})
    assert (one.edit_seq, edit.edit_of) == (3, 1)


async def test_refusals_come_in_their_places(thread: ThreadHandle, server: ServerProcess) -> None:
    posts: list[str | Post] = [
        "one",
        "",
        Post("stale", expected_last_seq=7),
        Post("x", on_behalf_of="y"),
        "two",
    ]
    results = [result async for result in thread.post_many(posts)]
    assert seqs(list(results)) == [1, 0, 0, 0, 2]
    assert [type(result) for result in results[1:4]] == [InvalidArgument, SeqConflict, AccessDenied]
    conflict = results[2]
    assert isinstance(conflict, SeqConflict)
    assert (conflict.expected, conflict.last_seq) == (7, 1)


async def test_in_an_unknown_thread_each_post_is_refused(server: ServerProcess, name: str) -> None:
    async with BusClient(server.address) as bus:
        results = [result async for result in bus.thread(name).post_many(["a", "b"])]
    assert [type(result) for result in results] == [ThreadNotFound, ThreadNotFound]


async def test_posts_of_a_slow_input_are_sent_as_they_come(thread: ThreadHandle) -> None:
    given: asyncio.Queue[str] = asyncio.Queue()

    async def slowly() -> AsyncIterator[str]:
        while text := await given.get():
            yield text

    async with contextlib.aclosing(thread.post_many(slowly())) as results:
        for number in range(1, 4):
            given.put_nowait(f"{number}")
            assert seqs([await anext(results)]) == [number]
        given.put_nowait("")
        with pytest.raises(StopAsyncIteration):
            await anext(results)


async def test_only_a_few_posts_are_taken_before_the_first_result(thread: ThreadHandle) -> None:
    taken = 0

    def endless() -> Iterator[str]:
        nonlocal taken
        while True:
            taken += 1
            yield str(taken)

    async with contextlib.aclosing(thread.post_many(endless())) as results:
        await anext(results)
        assert taken < 1_000


async def test_posts_taken_before_the_input_fails_are_posted(thread: ThreadHandle) -> None:
    def failing() -> Iterator[str]:
        yield from ("one", "two")
        raise LookupError("no more")

    results = []
    with pytest.raises(LookupError):
        async for result in thread.post_many(failing()):
            results.append(result)  # noqa: PERF401 - it ends with an exception
    assert seqs(list(results)) == [1, 2]


@pytest.mark.slow
async def test_posts_are_stored_once_and_in_order_though_the_server_is_killed(
    start_server: StartServer, name: str, tmp_path: Path
) -> None:
    server = start_server()
    texts = [str(n) for n in range(3_000)]
    async with member(server.address, name, tmp_path) as thread:
        results: list[object] = []
        async for result in thread.post_many(texts):
            results.append(result)
            if len(results) in (500, 1_500):
                server.kill()
                server.start()
        assert seqs(results) == list(range(1, 3_001))
        assert contents(await thread.messages(limit=4_000)) == texts


@pytest.mark.slow
async def test_posts_are_stored_once_when_the_server_drains(
    start_server: StartServer, name: str, tmp_path: Path
) -> None:
    server = start_server()
    texts = [str(n) for n in range(2_000)]
    async with member(server.address, name, tmp_path) as thread:
        results: list[object] = []
        async for result in thread.post_many(texts):
            results.append(result)
            if len(results) == 500:
                assert await asyncio.to_thread(server.stop) == 0
                server.start()
        assert seqs(results) == list(range(1, 2_001))
        assert contents(await thread.messages(limit=4_000)) == texts


@pytest.mark.slow
async def test_a_missing_result_is_an_unknown_outcome(
    start_server: StartServer, name: str, tmp_path: Path
) -> None:
    server = start_server()
    async with member(server.address, name, tmp_path) as thread:
        results = thread.post_many(["one", Post("two", request_id="second")], timeout=0.5)
        assert seqs([await anext(results)]) == [1]
        assert seqs([await anext(results)]) == [2]
        await results.aclose()
        server.kill()
        with pytest.raises(OutcomeUnknown) as raised:
            async for _ in thread.post_many([Post("three", request_id="third")], timeout=0.5):
                pass
        assert raised.value.request_id == "third"


async def test_a_token_that_expires_after_a_lost_result_leaves_the_outcome_unknown(
    server: ServerProcess, agents: AgentStub, bus: BusStub, thread: ThreadHandle, name: str
) -> None:
    caller = await register(agents, f"{name}-poster")
    async with (
        relay_to(server.address) as relay,
        BusClient(relay.address, token=caller.token) as it,
    ):
        asked = asyncio.Event()

        async def two() -> AsyncIterator[Post]:
            yield Post("one", request_id="first")
            await asked.wait()
            yield Post("two", request_id="second")

        posts = it.thread(thread.name).post_many(two())
        assert seqs([await anext(posts)]) == [1]
        relay.silence()
        asked.set()
        posting = asyncio.ensure_future(anext(posts))

        async def stored() -> bool:
            page = await bus.ListMessages(ListMessagesRequest(thread=thread.name))
            return len(page.messages) == 2

        await until_known(stored)
        await agents.UnregisterAgent(UnregisterAgentRequest(), metadata=caller.metadata)
        relay.cut()
        with pytest.raises(OutcomeUnknown) as raised:
            await posting
    assert (raised.value.reason, raised.value.request_id) == ("TOKEN_INVALID", "second")


def posted(seq: int) -> PostMessagesResponse:
    response = PostMessageResponse(thread="t", seq=seq)
    return PostMessagesResponse(results=[PostResult(response=response)])


async def test_a_stream_may_break_while_a_batch_with_results_is_still_sent() -> None:
    break_first, streams = asyncio.Event(), 0

    async def info(request: object, context: object) -> GetServerInfoResponse:
        return GetServerInfoResponse(agent="anonymous")

    async def post(requests: Any, context: Any) -> AsyncIterator[PostMessagesResponse]:
        nonlocal streams
        streams += 1
        if streams == 1:  # the results come before the posts, of which it reads none
            yield posted(1)
            yield posted(2)
            await break_first.wait()
            await context.abort(grpc.StatusCode.UNAVAILABLE)
        async for _ in requests:
            yield posted(3)

    methods: dict[str, Any] = {
        "GetServerInfo": grpc.unary_unary_rpc_method_handler(
            info, GetServerInfoRequest.FromString, GetServerInfoResponse.SerializeToString
        ),
        "PostMessages": grpc.stream_stream_rpc_method_handler(
            post, PostMessagesRequest.FromString, PostMessagesResponse.SerializeToString
        ),
    }
    service = "threadbus.v1.BusService"
    server = grpc.aio.server(options=[("grpc.http2.bdp_probe", 0)])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    large = "x" * 900_000  # more than fits into what a server reads ahead
    try:
        async with BusClient(address) as bus:
            results = bus.thread("t").post_many([large, large, "last"])
            assert seqs([await anext(results)]) == [1]
            break_first.set()
            assert seqs([result async for result in results]) == [2, 3]
    finally:
        await server.stop(None)
    assert streams == 2
