"""The load of a thread: how much of the time it has work."""

import threading
import time

import pytest

from bus_server import load
from bus_server.load import Load


def measured(until: float, work: float, rest: float) -> list[float]:
    """Returns the loads measured after each round of work and rest, until one passes `until`."""
    loads: list[float] = []
    measuring, give_up = Load(), time.monotonic() + 20
    while time.monotonic() < give_up:
        end = time.thread_time() + work
        while time.thread_time() < end:
            pass
        time.sleep(rest)
        loads.append(measuring.measure())
        if (loads[-1] > until) == (work > rest):
            break
    measuring.close()
    return loads


@pytest.mark.parametrize("without_statistics", [False, True])
def test_a_thread_that_works_has_a_high_load_and_one_that_sleeps_a_low_one(
    monkeypatch: pytest.MonkeyPatch, without_statistics: bool
) -> None:
    if without_statistics:
        monkeypatch.setattr(load, "_STATISTICS", load._STATISTICS.with_name("missing"))
    rising = measured(0.5, work=0.005, rest=0)
    assert rising[-1] > 0.5
    assert len(rising) > 2  # smoothed
    assert measured(0.1, work=0, rest=0.005)[-1] <= 0.1


def test_the_load_is_that_of_the_thread_that_created_it() -> None:
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            sum(range(1_000))

    working = threading.Thread(target=work)
    working.start()
    try:
        assert measured(0.3, work=0, rest=0.02)[-1] <= 0.3
    finally:
        stop.set()
        working.join()
