"""A wait from which more entries are removed before it has said where it starts."""

from pathlib import Path

import pytest

from bus_server.settings import Settings
from tests.own_bus import append, following, opened, started, wait_on
from tests.polling import until
from tests.store.commits import compact, create
from threadbus.v1.bus_service_pb2 import WaitMessagesResponse, WaitResync

pytestmark = pytest.mark.sqlite


async def test_the_resync_names_the_oldest_entry_of_its_time(tmp_path: Path) -> None:
    frames: list[WaitMessagesResponse] = []
    async with (
        opened(tmp_path / "bus.db") as store,
        started(store, Settings(db=tmp_path / "bus.db")) as parts,
    ):

        async def take(frame: WaitMessagesResponse) -> None:
            if frame.HasField("started"):
                await parts.writer.submit(compact(0, 1))
            frames.append(frame)

        await store.commit([create()])
        await store.commit([append("t", str(number)) for number in range(5)])
        await parts.writer.submit(compact(0, 3))
        async with following(parts.bus, wait_on("t"), take):
            await until(lambda: any(frame.HasField("caught_up") for frame in frames))
    resyncs = [frame.resync for frame in frames if frame.HasField("resync")]
    assert [each.reason for each in resyncs] == [WaitResync.REASON_COMPACTED]
    (resync,) = resyncs
    assert (resync.requested.after_seq, resync.position.cursor.after_seq) == (0, 4)
    assert resync.position.first_seq == 5
