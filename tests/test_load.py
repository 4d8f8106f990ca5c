"""The load of a thread: how much of the time it has work."""

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus_server import load
from bus_server.load import Load


@pytest.fixture
def measuring() -> Iterator[Load]:
    """The load of this thread."""
    with contextlib.closing(Load()) as measured:
        yield measured


def rise(measuring: Load) -> int:
    """Work until the load is high. Returns the number of measurements."""
    give_up, count = time.monotonic() + 20, 1
    while measuring.measure() < 0.5:
        assert time.monotonic() < give_up
        count += 1
        end = time.thread_time() + 0.005
        while time.thread_time() < end:
            pass
    return count


def fall(measuring: Load) -> None:
    """Sleep until the load is low."""
    give_up = time.monotonic() + 20
    while measuring.measure() > 0.3:
        assert time.monotonic() < give_up
        time.sleep(0.02)


def test_the_load_rises_with_work_and_falls_without_and_is_smoothed(measuring: Load) -> None:
    assert rise(measuring) > 3
    fall(measuring)


@pytest.mark.parametrize("shown", [None, "0 0 0\n"], ids=["none", "zeros"])
def test_a_kernel_without_statistics_of_the_scheduler_will_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shown: str | None
) -> None:
    statistics = tmp_path / "schedstat"
    if shown:
        statistics.write_text(shown, "ascii")
    monkeypatch.setattr(load, "_STATISTICS", statistics)
    with contextlib.closing(Load()) as measuring:
        rise(measuring)
        fall(measuring)


def test_the_work_of_other_threads_does_not_count(measuring: Load) -> None:
    rise(measuring)
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            sum(range(1_000))

    working = threading.Thread(target=work)
    working.start()
    try:
        fall(measuring)
    finally:
        stop.set()
        working.join()
