"""P8: posts, wake-ups, pages, memory and start-up with a large store."""

import shutil
import time
from pathlib import Path

import build_store
import ghz
import own_calls
import servers
from bench import Bench, note_failures
from goal_wakes import woken
from results import Outcome, median, ratios

_BYTES_PER_MESSAGE = 450  # bytes on disk of a message with a request_id
_POSTED_TO = 1_000  # threads


def measure(bench: Bench) -> Outcome:
    """Measure P1 and P2 with an empty store and a large one, then with sizes in between."""
    messages, threads = bench.pick((100_000, 2_000), (10_000_000, 100_000))
    free = shutil.disk_usage(bench.folder).free
    while messages * _BYTES_PER_MESSAGE * 2 > free:
        messages, threads = messages // 10, max(threads // 10, _POSTED_TO)
    outcome = Outcome("P8", f"growth: P1 and P2 at {messages:,} messages in {threads:,} threads")
    if messages < 10_000_000:
        outcome.notes.append("The goal is for 10,000,000 messages in 100,000 threads.")
    sizes = bench.pick((), (10_000, 100_000, 1_000_000))
    with bench.own_folder() as folder:
        empty, large = folder / "empty", folder / "large"
        bench.say(f"P8: {messages:,} messages are being written")
        _build(empty, messages=0, threads=_POSTED_TO)
        _build(large, messages=messages, threads=threads)
        outcome.add("large file: GB", (large / "threadbus.db").stat().st_size / 1e9)
        for _ in range(bench.pick(3, 7)):
            for name, place in (("empty", empty), ("large", large)):
                began = time.monotonic()
                with servers.threadbus(place):
                    outcome.add(f"{name}: start-up s", time.monotonic() - began)
        with servers.threadbus(empty) as small_bus, servers.threadbus(large) as large_bus:
            systems = {"empty": small_bus, "large": large_bus}
            for number in range(-1, bench.rounds):  # the first round warms up
                record = outcome if number >= 0 else Outcome("", "")
                bench.say(f"P8 round {number + 1} of {bench.rounds}")
                for name, server in systems.items():
                    _measure(bench, record, name, server, folder, number + 1)
            for name, server in systems.items():
                outcome.add(f"{name}: resident MB", server.resident_bytes() / 1e6)
        for most in sizes:
            place = folder / f"{most}"
            _build(place, messages=most, threads=max(most // 100, _POSTED_TO))
            with servers.threadbus(place) as server:
                for number in range(2):
                    record = outcome if number else Outcome("", "")
                    _measure(bench, record, f"{most:,} messages", server, folder, number)
            shutil.rmtree(place)
    for what, name in (("posts/s", "posts/s"), ("wake-up p50 ms", "time to wake-up, p50")):
        series = outcome.series.setdefault("growth", {})
        names = [(0, "empty"), *((n, f"{n:,} messages") for n in sizes), (messages, "large")]
        series[name] = [(n, outcome.figures[f"{place}: {what}"]) for n, place in names]
    figures = outcome.figures
    outcome.judge(
        "posts/s, relative to the empty store",
        0.9,
        ratios(figures["large: posts/s"], figures["empty: posts/s"]),
        at_least=True,
    )
    outcome.judge(
        "wake-up p50, relative to the empty store",
        1.1,
        ratios(figures["large: wake-up p50 ms"], figures["empty: wake-up p50 ms"]),
        at_least=False,
    )
    for what in ("threads", "messages"):
        if f"large: a page of {what}, p50 ms" in figures:
            outcome.judge(
                f"page of {what}, relative to the empty store",
                1.1,
                ratios(
                    figures[f"large: a page of {what}, p50 ms"],
                    figures[f"empty: a page of {what}, p50 ms"],
                ),
                at_least=False,
            )
    outcome.judge(
        "memory beyond the empty store's",
        20,  # MB that SQLite's caches may hold, however large the store is
        [figures["large: resident MB"][0] - figures["empty: resident MB"][0]],
        at_least=False,
        unit="MB",
    )
    outcome.judge("start-up", 1, figures["large: start-up s"], at_least=False, unit="s")
    return outcome


def _build(folder: Path, *, messages: int, threads: int) -> None:
    folder.mkdir()
    build_store.build(folder / "threadbus.db", threads=threads, messages=messages)


def _measure(
    bench: Bench, outcome: Outcome, name: str, server: servers.Server, folder: Path, number: int
) -> None:
    # Spread over old threads, so that the posts write many different pages, none of them cached.
    threads = [build_store.thread_name(at) for at in range(1, _POSTED_TO + 1)]
    count = bench.pick(1_500, 10_000)
    before = own_calls.messages_in(server.address, threads)
    load = ghz.post(
        bench.tools.ghz,
        server,
        folder=folder,
        threads=threads,
        sizes=[256],
        count=count,
        concurrency=64,
    )
    outcome.add(f"{name}: posts/s", load.per_second)
    outcome.add(f"{name}: server CPU µs per post", load.cpu_microseconds)
    note_failures(outcome, "ThreadBus", load.failed)
    stored = own_calls.messages_in(server.address, threads) - before
    good = load.calls - len(load.failed)
    outcome.count(
        "ThreadBus", sent=count, lost=max(good - stored, 0), duplicated=max(stored - good, 0)
    )
    if bench.tools.ghz:
        for what, method, requests in (
            ("threads", "ThreadService.ListThreads", [{"page_size": 50}]),
            (
                "messages",
                "BusService.ListMessages",
                [{"thread": thread, "limit": 10, "newest": True} for thread in threads],
            ),
        ):
            read = ghz.listing(
                bench.tools.ghz,
                server,
                folder=folder,
                method=method,
                requests=requests,
                count=bench.pick(200, 1_000),
            )
            note_failures(outcome, "ThreadBus", read.failed)
            outcome.add(f"{name}: a page of {what}, p50 ms", median(read.latencies) * 1e3)
    thread = f"growth-{name.split()[0].replace(',', '')}-{number}"
    own_calls.create_threads(server.address, [thread])
    record = Outcome("", "")
    woken(record, "ThreadBus", server, thread=thread, count=bench.pick(150, 600))
    for part in (50, 99):
        (value,) = record.figures[f"ThreadBus: wake-up p{part} ms"]
        outcome.add(f"{name}: wake-up p{part} ms", value)
    outcome.count("ThreadBus", **record.faults["ThreadBus"])
