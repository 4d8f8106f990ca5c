"""Wall clocks that are set: waits keep their durations, and posts their order."""

import time
from itertools import pairwise
from pathlib import Path

import pytest

from tests.clocks import DAY, MINUTES, WallClock
from tests.conftest import StartServer
from tests.connections import connected
from tests.peers import Peer
from threadbus.v1.bus_service_pb2 import WaitEnding

#: Duration of a wait, in seconds. The server ends it a tenth before a deadline.
LENGTH = 2.0

pytestmark = [pytest.mark.slow, pytest.mark.sqlite]

steps = pytest.mark.parametrize("step", [-DAY, -MINUTES, 2 * DAY])


@pytest.fixture
def wall(tmp_path: Path) -> WallClock:
    """The wall clock of the test's server."""
    return WallClock(tmp_path)


@steps
@pytest.mark.parametrize("end", ["max_wait", "timeout"])
@pytest.mark.parametrize("when", ["before", "meanwhile"])
async def test_a_wait_lasts_as_long_as_requested(
    start_server: StartServer, wall: WallClock, name: str, step: float, end: str, when: str
) -> None:
    server = start_server(environment=wall.environment)
    async with connected(server.address, name) as client:
        if when == "before":
            wall.set(step)
        began = time.monotonic()
        async with Peer(client.bus).wait(name, **{end: LENGTH}) as frames:
            await frames.until("caught_up")
            wall.set(step)
            ending = await frames.ending()
        assert LENGTH * 0.7 < time.monotonic() - began < LENGTH + 10
        reasons = {"max_wait": WaitEnding.REASON_MAX_WAIT, "timeout": WaitEnding.REASON_DEADLINE}
        assert ending.reason == reasons[end]


@steps
async def test_posts_stay_in_order_and_carry_the_wall_clocks_time(
    start_server: StartServer, wall: WallClock, name: str, step: float
) -> None:
    server = start_server(environment=wall.environment)
    async with connected(server.address, name) as client:
        poster = Peer(client.bus)
        async with poster.wait(name) as frames:
            began = time.time()
            answers = [await poster.post(name, request_id="1"), await poster.post(name)]
            wall.set(step)
            answers += [await poster.post(name, request_id="3"), await poster.post(name)]
            found = await frames.messages(4)
        assert [message.seq for message in found] == [1, 2, 3, 4]
        assert [m.create_time for m in found] == [answer.create_time for answer in answers]
        for answer, ahead in zip(answers, (0, 0, step, step), strict=True):
            told = answer.create_time.ToMicroseconds() / 1e6
            assert began - 1 < told - ahead < time.time() + 1
        for earlier in (answers[0], answers[2]):
            again = await poster.post(name, request_id=str(earlier.seq))
            assert (again.seq, again.create_time) == (earlier.seq, earlier.create_time)
        assert server.stop() == 0
    server.start()
    async with connected(server.address) as client:
        read = await Peer(client.bus).read(name)
        assert all(later.seq == earlier.seq + 1 for earlier, later in pairwise(read))
        assert [m.create_time for m in read] == [m.create_time for m in found]
        again = await Peer(client.bus).post(name, request_id="3")
        assert (again.seq, again.create_time) == (3, answers[2].create_time)
