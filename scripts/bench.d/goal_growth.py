"""P8: posts, wake-ups, pages, memory and start-up with a large store."""

import shutil
import time
from pathlib import Path

import build_store
import ghz
import own_calls
import servers
from bench import Bench, note_failures
from disturbance import watched
from goal_wakes import woken
from posts import Posts
from results import Outcome, median

_BYTES_PER_MESSAGE = 450  # bytes on disk of a message with a request_id
#: Old threads, so that the posts write many different pages, none of them cached.
_THREADS = [build_store.thread_name(number) for number in range(1, 1_001)]


def measure(bench: Bench) -> Outcome:
    """Measure P1 and P2 with an empty store and a large one, then with sizes in between."""
    messages, threads = bench.pick((100_000, 2_000), (10_000_000, 100_000))
    free = shutil.disk_usage(bench.folder).free
    while messages * _BYTES_PER_MESSAGE * 2 > free:
        messages, threads = messages // 10, max(threads // 10, len(_THREADS))
    outcome = Outcome("P8", f"growth: P1 and P2 at {messages:,} messages in {threads:,} threads")
    if messages < 10_000_000:
        outcome.notes.append("The goal is for 10,000,000 messages in 100,000 threads.")
    sizes = bench.pick((), (10_000, 100_000, 1_000_000))
    with bench.own_folder() as folder:
        empty, large = folder / "empty", folder / "large"
        bench.say(f"P8: {messages:,} messages are being written")
        _build(empty, messages=0, threads=len(_THREADS))
        _build(large, messages=messages, threads=threads)
        outcome.add("large file: GB", (large / "threadbus.db").stat().st_size / 1e9)
        for _ in range(bench.pick(3, 7)):
            for name, place in (("empty", empty), ("large", large)):
                with watched(outcome):
                    began = time.monotonic()
                    with servers.threadbus(place):
                        outcome.add(f"{name}: start-up s", time.monotonic() - began)
        with (
            servers.floor(folder) as floor,
            servers.threadbus(empty) as small_bus,
            servers.threadbus(large) as large_bus,
        ):
            floor_posts = Posts(bench, outcome, folder, _THREADS)
            systems = {"empty": small_bus, "large": large_bus}
            posts = {name: _posts(bench, outcome, folder, bus) for name, bus in systems.items()}
            for number, record in outcome.rounds(bench.rounds):
                bench.say(f"P8 round {number} of {bench.rounds}")
                _post(bench, record, "floor", floor, floor_posts)
                for name, server in systems.items():
                    _measure(bench, record, name, server, posts[name], number)
            for name, server in systems.items():
                posts[name].check(server)
                outcome.add(f"{name}: resident MB", server.resident_bytes() / 1e6)
            for most in sizes:
                bench.say(f"P8: {most:,} messages")
                place, name = folder / f"{most}", f"{most:,} messages"
                _build(place, messages=most, threads=max(most // 100, len(_THREADS)))
                with servers.threadbus(place) as server:
                    own = _posts(bench, outcome, folder, server)
                    for number in range(3):  # the first time warms up
                        record = outcome if number else Outcome("", "")
                        _post(bench, record, f"floor beside {name}", floor, floor_posts)
                        _measure(bench, record, name, server, own, number)
                    own.check(server)
                shutil.rmtree(place)
    places = [(0, "empty"), *((n, f"{n:,} messages") for n in sizes), (messages, "large")]
    for what in ("posts/s", "wake-up p50 ms"):
        outcome.series[what] = {
            "ThreadBus": [(n, outcome.figures[f"{place}: {what}"]) for n, place in places]
        }
    outcome.series["posts/s"]["floor"] = [
        (
            n,
            outcome.figures.get(
                f"floor beside {place}: posts/s", outcome.figures["floor: posts/s"]
            ),
        )
        for n, place in places
    ]
    for what, goal, at_least in (("posts/s", 0.9, True), ("wake-up p50 ms", 1.1, False)):
        ratio = outcome.ratio(f"large: {what}", f"empty: {what}")
        relative = f"{what.removesuffix(' ms')}, relative to the empty store"
        outcome.judge(relative, goal, ratio, at_least=at_least)
    start_up = outcome.figures["large: start-up s"]
    outcome.judge("start-up", 1, start_up, at_least=False, unit="s")
    return outcome


def _build(folder: Path, *, messages: int, threads: int) -> None:
    folder.mkdir()
    build_store.build(folder / "threadbus.db", threads=threads, messages=messages)


def _posts(bench: Bench, outcome: Outcome, folder: Path, server: servers.Server) -> Posts:
    stored = own_calls.messages_in(server.address, _THREADS)
    return Posts(bench, outcome, folder, _THREADS, stored=stored)


def _post(bench: Bench, outcome: Outcome, name: str, server: servers.Server, posts: Posts) -> None:
    with watched(outcome):
        load = posts.run(server, 64, bench.pick(0.5, 3.0))
        outcome.add(f"{name}: posts/s", load.per_second)
        outcome.add(f"{name}: server CPU µs per post", load.cpu_microseconds)


def _measure(
    bench: Bench, outcome: Outcome, name: str, server: servers.Server, posts: Posts, number: int
) -> None:
    """Measure posts, pages and wake-ups."""
    _post(bench, outcome, name, server, posts)
    for what, method, requests in (
        ("threads", "ThreadService.ListThreads", [{"page_size": 50}]),
        (
            "messages",
            "BusService.ListMessages",
            [{"thread": thread, "limit": 10, "newest": True} for thread in _THREADS],
        ),
    ):
        if bench.tools.ghz:
            with watched(outcome), bench.own_folder() as folder:
                read = ghz.listing(
                    bench.tools.ghz,
                    server,
                    folder=folder,
                    method=method,
                    requests=requests,
                    count=bench.pick(100, 250),
                )
                outcome.add(f"{name}: a page of {what}, p50 ms", median(read.latencies) * 1e3)
            note_failures(outcome, "ThreadBus", read.failed)
    thread = f"growth-{name.split()[0].replace(',', '')}-{number}"
    own_calls.create_threads(server.address, [thread])
    count = bench.pick(150, 400)
    woken(outcome, name, server, thread=thread, count=count, system="ThreadBus")
