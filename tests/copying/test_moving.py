"""Clients stay while their server's store is moved to the other engine."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from tests.copying.conftest import ENGINES, NewPlace
from tests.copying.stores import copied
from tests.members import member, read_position, take

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("source", "target"), [ENGINES, ENGINES[::-1]])
async def test_a_reader_and_a_writer_that_stay_lose_and_repeat_nothing(
    new_place: NewPlace, tmp_path: Path, name: str, source: str, target: str
) -> None:
    place, copy = new_place(source), new_place(target)
    with contextlib.ExitStack() as serving:
        server = serving.enter_context(place.serve())
        async with (
            member(server.address, name, tmp_path, role="writer") as writer,
            member(server.address, name, tmp_path) as reader,
            contextlib.aclosing(reader.follow()) as messages,
        ):
            for n in range(5):
                await writer.post(f"before {n}", request_id=f"r-{n}")
            assert await take(messages, 3) == [f"before {n}" for n in range(3)]
            assert await asyncio.to_thread(server.stop) == 0
            # It is posted once, to the server on the copy.
            meanwhile = asyncio.create_task(writer.post("meanwhile"))
            await asyncio.to_thread(copied, place, copy)
            await asyncio.to_thread(serving.enter_context, copy.serve(listen=server.address))
            assert (await meanwhile).seq == 6
            again = await writer.post("before 4", request_id="r-4")
            assert (again.seq, again.deduplicated) == (5, True)
            await writer.post("after")
            expected = ["before 3", "before 4", "meanwhile", "after"]
            assert await take(messages, 4) == expected
            # It has not come back for more after the last one.
        assert await read_position(server.address, name, tmp_path) == 6
