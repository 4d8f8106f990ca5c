"""`threadbus tail` and `export` when messages are removed meanwhile, by a scripted server."""

import asyncio
import json
from pathlib import Path

import grpc
import pytest

from tests.script import (
    EPOCH,
    THREAD,
    Failure,
    Script,
    batch,
    cursor,
    last_batch,
    scripted,
    started,
)
from tests.shell import Done, Shell
from tests.test_sdk_lies_compacted import compacted
from tests.wait_frames import BOUND
from threadbus.v1.bus_service_pb2 import (
    ListMessagesResponse,
    WaitEnding,
    WaitMessagesResponse,
)
from threadbus.v1.message_pb2 import Message
from threadbus.v1.thread_pb2 import Thread
from threadbus.v1.thread_service_pb2 import GetThreadResponse, ListThreadsResponse

pytestmark = pytest.mark.slow


def thread(first_seq: int, head_seq: int) -> Thread:
    return Thread(name=THREAD, epoch=EPOCH, first_seq=first_seq, head_seq=head_seq)


def messages(*seqs: int, edit_seq: int = 0) -> list[Message]:
    found = list(batch(*seqs).messages.messages) if seqs else []
    for each in found:
        each.edit_seq = edit_seq
    return found


async def run(script: Script, home: Path, *arguments: str) -> Done:
    async with asyncio.timeout(BOUND):
        return await asyncio.to_thread(Shell(script.address, home).run, *arguments)


def seqs(done: Done) -> list[int]:
    return [json.loads(line)["seq"] for line in done.out.splitlines()]


@pytest.mark.parametrize("form", [[], ["--json"]], ids=["lines", "json"])
async def test_a_tail_that_falls_behind_goes_on(tmp_path: Path, form: list[str]) -> None:
    async with scripted() as script:
        script.answer("GetThread", GetThreadResponse(thread=thread(1, 0)))
        script.answer("WaitMessages", started(), batch(1, 2), compacted(cursor(2), cursor(6)))
        script.answer("WaitMessages", *last_batch(7, 8))
        done = await run(script, tmp_path, "tail", THREAD, *form)
    assert done.code == 0
    if form:
        assert seqs(done) == [1, 2, 7, 8]
        assert (done.error["reason"], done.error["code"]) == ("COMPACTED", "OUT_OF_RANGE")
    else:
        assert [line.split()[0] for line in done.out.splitlines()] == ["#1", "#2", "#7", "#8"]
        assert done.err.splitlines() == [
            f"Messages #3 to #6 of {THREAD} are not kept any more.",
            f"{THREAD} is closed.",
        ]


@pytest.mark.parametrize("first_seq", [1, 4, 7])
async def test_a_tail_of_all_threads_tells_what_is_gone(tmp_path: Path, first_seq: int) -> None:
    """And not what this version does not know, although there is a gap, too."""
    end = WaitMessagesResponse(ending=WaitEnding(reason=WaitEnding.REASON_SESSION_ENDED))
    async with scripted() as script:
        script.answer("ListThreads", ListThreadsResponse(threads=[thread(1, 0)]))
        skip = compacted(cursor(2), cursor(6))
        script.answer("WaitMessages", started(), batch(1, 2), skip, batch(7), batch(8), end)
        script.answer("GetThread", GetThreadResponse(thread=thread(first_seq, 8)))
        done = await run(script, tmp_path, "tail", "--all", "--as", "reader", "--json")
    assert seqs(done) == [1, 2, 7, 8]
    told = {1: "", 4: "Message #3 of", 7: "Messages #3 to #6 of"}[first_seq]
    assert (done.error["message"] if told else done.err).startswith(told)


def page(*found: Message, first_seq: int, head_seq: int = 6) -> ListMessagesResponse:
    return ListMessagesResponse(
        messages=found,
        first_seq=first_seq,
        head_seq=head_seq,
        epoch=EPOCH,
        next_after_seq=found[-1].seq if found else head_seq,
    )


async def export(script: Script, home: Path, *now: int) -> Done:
    """Export a thread that has messages 1 to 6 at first. `now`: what is the oldest at each look."""
    script.answer("GetThread", GetThreadResponse(thread=thread(1, 6)))
    for first_seq in now:
        script.answer("GetThread", GetThreadResponse(thread=thread(first_seq, 6)))
    return await run(script, home, "export", THREAD)


async def test_an_export_goes_on_after_what_was_removed(tmp_path: Path) -> None:
    async with scripted() as script:
        script.answer("ListMessages", page(*messages(4, 5, 6), first_seq=4))
        done = await export(script, tmp_path, 4, 4)
    assert (done.code, seqs(done)) == (0, [4, 5, 6])
    assert done.err == f"Messages #1 to #3 of {THREAD} are not kept any more.\n"


async def test_an_export_of_a_thread_that_is_emptied(tmp_path: Path) -> None:
    async with scripted() as script:
        script.answer("ListMessages", page(first_seq=7))
        done = await export(script, tmp_path, 7, 7)
    assert (done.code, done.out) == (3, "")
    assert done.err.splitlines() == [
        f"Messages #1 to #6 of {THREAD} are not kept any more.",
        "There is nothing to export.",
    ]


@pytest.mark.parametrize("first_seq", [1, 6, 7])
async def test_a_message_that_was_removed_with_its_edit_is_left_out(
    tmp_path: Path, first_seq: int
) -> None:
    found = [*messages(1, 2, edit_seq=6), *messages(3, 4, 5, 6)]
    gone = Failure(grpc.StatusCode.NOT_FOUND, "MESSAGE_NOT_FOUND")
    async with scripted() as script:
        script.answer("ListMessages", page(*found, first_seq=1))
        script.answer("GetMessage", gone)
        script.answer("GetMessage", gone)
        done = await export(script, tmp_path, first_seq, first_seq, first_seq)
    if first_seq <= 6:  # the edit must be there
        assert (done.code, done.out) == (1, "")
    else:
        assert (done.code, seqs(done)) == (0, [3, 4, 5, 6])
