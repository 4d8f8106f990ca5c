"""The Python SDK's own CPU time, compared to bare gRPC stubs that do the same work."""

import contextlib
from dataclasses import dataclass, field
from typing import Any

import build_store
import own_calls
import processes
import servers
from bench import Bench
from results import Outcome, percentile

_APIS = {"sdk": "SDK", "sync": "sync SDK", "raw": "raw stub"}
_ASYNC = ("sdk", "raw")
_THREAD = build_store.thread_name(1)


@dataclass(frozen=True, slots=True)
class _Work:
    """What one client process does; see client_sdk.py."""

    what: str
    do: str
    counts: tuple[int, int]
    """Number of messages in a quick run, and in a full one."""
    apis: tuple[str, ...] = tuple(_APIS)
    concurrency: int = 1
    posts: dict[str, Any] = field(default_factory=dict)
    """How another process posts the messages that this one receives. Empty = it does not."""


_ALL_WORK = (
    _Work("post", "post", (100, 300)),
    _Work("post, 64 at once", "post", (500, 1_500), _ASYNC, concurrency=64),
    _Work("batches", "batches", (3_000, 10_000)),
    _Work("replay", "replay", (20_000, 100_000)),
    _Work("live", "follow", (500, 1_500), posts={"concurrency": 64}),
    _Work("wake-up", "follow", (100, 200), posts={"pace": 0.005}),
    _Work("wake-up of one wait each", "wait", (100, 200), _ASYNC, posts={"pace": 0.005}),
)


def measure(bench: Bench) -> Outcome:
    """Measure the client's CPU time per post, delivery and wake-up."""
    outcome = Outcome("SDK", "client CPU of the Python SDK, compared to bare stubs")
    with bench.own_folder() as folder, contextlib.ExitStack() as running:
        filled = folder / "filled.db"
        stored = bench.pick(*next(w.counts for w in _ALL_WORK if w.do == "replay"))
        build_store.build(filled, threads=1, messages=stored, request_ids=False)
        bus = running.enter_context(servers.threadbus(folder))
        bus_filled = running.enter_context(servers.threadbus(folder, db=filled))
        rounds = bench.pick(1, 5)
        for number in range(rounds):
            bench.say(f"SDK round {number + 1} of {rounds}")
            for at, work in enumerate(_ALL_WORK):
                for api in work.apis:
                    thread, server = f"bench-{number}-{at}-{api}", bus
                    if work.do == "replay":
                        thread, server = _THREAD, bus_filled
                    else:
                        own_calls.create_threads(bus.address, [thread])
                    job = {"address": server.address, "thread": thread}
                    _measure(outcome, work, api, job | {"count": bench.pick(*work.counts)})
    # Work at which the SDK should hardly be slower, and work that is nearly free without it.
    for what, goal in (("post", 1.3), ("wake-up", 1.5), ("batches", 3.0), ("replay", 3.0)):
        ratios = outcome.ratio(f"{what}: SDK client CPU µs", f"{what}: raw stub client CPU µs")
        outcome.judge(f"{what}: SDK relative to raw stub", goal, ratios, at_least=False)
    return outcome


def _measure(outcome: Outcome, work: _Work, api: str, job: dict[str, Any]) -> None:
    own = {"do": work.do, "api": api, "size": 256, "concurrency": work.concurrency}
    with processes.client("client_sdk.py", **job, **own) as client:
        if work.posts:
            client.ready()
            posted = processes.run("client_posts.py", do="unary", size=256, **job, **work.posts)
        found = client.result()
    lost, duplicated = found.get("lost", 0), found.get("duplicated", 0)
    outcome.count("ThreadBus", sent=job["count"], lost=lost, duplicated=duplicated)
    name = f"{work.what}: {_APIS[api]}"
    # The time of received messages begins with the first one.
    count = job["count"] - bool(work.posts)
    outcome.add(f"{name} client CPU µs", found["cpu"] / count * 1e6)
    if "pace" not in work.posts:
        outcome.add(f"{name} µs", found["seconds"] / count * 1e6)
    else:
        pairs = zip(posted["began"], found["arrived"], strict=True)
        outcome.add(f"{name} p50 ms", percentile([at - began for began, at in pairs], 50) * 1e3)
