"""Counts what the server does, for GetStatus and for the metrics.

Counting must cost next to nothing, as every call and every commit is counted: plain numbers in
memory, which only the event loop's thread changes. Other threads may read them.
"""

import asyncio
import heapq
import sys
import time
from bisect import bisect_left
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bus_server.histogram import TIMES, Histogram
from bus_server.store import Commit

#: Bounds of the durations of calls, in seconds, and of the numbers of messages in a commit.
CALL_TIMES = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 60.0, 600.0),
)
BATCH_SIZES = tuple(2.0**power for power in range(13))
#: The status codes which say that the server could not serve a call.
FAILURES = frozenset(("Unavailable", "ResourceExhausted", "Internal", "Unknown", "DataLoss"))

#: Seconds between two ticks, and the longest window.
TICK, MAX_WINDOW = 1.0, 300
#: How many threads are remembered of each tick: those that were posted to most. A thread that is
#: not among them got less than 1 / BUSIEST of the messages.
BUSIEST = 64
#: For how many commits to threads with waits is remembered when they were committed.
MAX_COMMITS = 8_192


class MethodStatistics:
    """What was counted of one RPC method since the server started."""

    __slots__ = (
        *("failures", "kind", "method", "received", "seconds", "sent", "service", "started"),
        "succeeded",
    )

    def __init__(self, path: str, kind: str) -> None:
        """
        Args:
            path: `/package.Service/Method`.
            kind: `unary`, `server_stream` or `bidi_stream`.
        """
        _, self.service, self.method = path.split("/")
        self.kind = kind
        #: Calls that began, and those that succeeded.
        self.started = self.succeeded = 0
        #: Calls that failed, by the name of their status code in Go: `NotFound` …
        self.failures: dict[str, int] = {}
        #: Messages of the calls: requests read, and responses or frames given to gRPC.
        self.received = self.sent = 0
        #: Of the durations of the calls that ended, in seconds.
        self.seconds = Histogram(CALL_TIMES)

    @property
    def ended(self) -> int:
        """How many calls ended."""
        return self.succeeded + sum(self.failures.values())

    def success(self, seconds: float) -> None:
        """Count a call that succeeded, after so many seconds. Every post pays for this: 0.4 µs."""
        self.succeeded += 1
        times = self.seconds
        times.counts[bisect_left(CALL_TIMES, seconds)] += 1
        times.sum += seconds


@dataclass(frozen=True, slots=True)
class _Totals:
    """What had been counted at a time, which is on the monotonic clock."""

    time: float
    posted: int = 0
    delivered: int = 0
    calls: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class _Tick:
    """What was counted from one tick to the next."""

    start: _Totals
    #: Numbers of wake-ups and commits, by the index of their bound in TIMES.
    wakes: Sequence[tuple[int, int]]
    commits: Sequence[tuple[int, int]]
    #: Messages posted, by thread: of the BUSIEST threads.
    posts: Mapping[str, int]
    hint_lag: float


@dataclass(frozen=True, slots=True)
class Window:
    """What was counted in the last seconds. `posts`: messages posted, by thread."""

    seconds: float
    posted: int
    delivered: int
    calls: int
    failed: int
    wakes: Sequence[int]  # by bound in TIMES, as the commits
    commits: Sequence[int]
    posts: Counter[str]
    hint_lag: float  # in seconds; the most


class Statistics:
    """All counters of a server. Use it on the event loop only, but for reading single numbers."""

    def __init__(self) -> None:
        #: Messages posted through this server, and messages delivered to waits.
        self.posted = self.delivered = 0
        #: Calls that ended with one of FAILURES.
        self.failed = 0
        #: Refusals of calls, and of posts of PostMessages, by reason.
        self.rejections: dict[str, int] = {}
        #: By path; and of all methods that this server does not have.
        self.methods: dict[str, MethodStatistics] = {}
        self.unknown = MethodStatistics("//", "unary")
        #: Seconds from a commit to when the frame with its messages was written to a wait that had
        #: nothing older to read; and seconds of the store's commits.
        self.wake_seconds, self.commit_seconds = Histogram(TIMES), Histogram(TIMES)
        #: Messages of the commits that appended any.
        self.batch_posts = Histogram(BATCH_SIZES)
        #: When messages were committed, on the monotonic clock, by the epoch of their thread and
        #: the seq before the first one. Oldest first.
        self._commits = OrderedDict[tuple[str, int], float]()
        # Since the last tick.
        self._posts: dict[str, int] = {}
        self._hint_lag = 0.0
        self._start = _Totals(time.monotonic())
        self._wakes_before = self.wake_seconds.counts.copy()
        self._commits_before = self.commit_seconds.counts.copy()
        self._ticks: deque[_Tick] = deque(maxlen=MAX_WINDOW + 1)

    def method(self, path: str, kind: str) -> MethodStatistics:
        """Returns the counters of a method, which are created and listed if there are none."""
        return self.methods.setdefault(path, MethodStatistics(path, kind))

    def failure(self, method: MethodStatistics, code: str, reason: str, seconds: float) -> None:
        """Count a call that failed.

        Args:
            code: the name of its status code in Go.
            reason: the ErrorReason without its prefix; empty: none.
            seconds: how long it took.
        """
        method.seconds.observe(seconds)
        method.failures[code] = method.failures.get(code, 0) + 1
        if code in FAILURES:
            self.failed += 1
        if reason:
            self.rejected(reason)

    def rejected(self, reason: str) -> None:
        """Count the refusal of a call, or of a post of PostMessages."""
        self.rejections[reason] = self.rejections.get(reason, 0) + 1

    def committed(self, commit: Commit, begin: float) -> None:
        """Count a commit. `begin`: when the store got the batch, on the monotonic clock."""
        if not commit.time:
            return  # nothing was committed
        seconds, times = commit.time - begin, self.commit_seconds  # inline: every post pays for it
        times.counts[bisect_left(TIMES, seconds)] += 1
        times.sum += seconds
        if not commit.entries:
            return
        posted, posts = 0, self._posts
        for name, entries in commit.entries.items():
            count = len(entries)
            posted += count
            posts[name] = posts.get(name, 0) + count
        self.posted += posted
        self.batch_posts.observe(posted)

    def remember(self, commit: Commit, name: str, epoch: str) -> None:
        """Remember when a commit to a thread was made. Call it before waits are woken."""
        first = next(iter(commit.entries[name]))
        self._commits[epoch, first - 1] = commit.time
        if len(self._commits) > MAX_COMMITS:
            self._commits.popitem(last=False)

    def wrote(self, messages: int, place: tuple[str, int] | None) -> float:
        """Count messages that were just written to a wait.

        `place`: up to where the wait had read the thread, as epoch and seq. If this server has
        lately committed what follows there, this was a wake-up. None: the wait reads history.

        Returns when that was committed, on the monotonic clock; 0: this was no wake-up.
        """
        self.delivered += messages
        committed = self._commits.get(place, 0.0) if place is not None else 0.0
        if committed:
            self.wake_seconds.observe(time.monotonic() - committed)
        return committed

    def learned(self, lag: float) -> None:
        """Record how late a commit of another server was learned of, in seconds."""
        self._hint_lag = max(self._hint_lag, lag)

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            await asyncio.sleep(TICK)
            self.tick()

    def tick(self) -> None:
        """Begin a new second of the windows. Takes about 20 µs."""
        wakes, commits = self.wake_seconds.counts.copy(), self.commit_seconds.counts.copy()
        posts = self._posts
        if len(posts) > BUSIEST:
            posts = dict(heapq.nlargest(BUSIEST, posts.items(), key=lambda item: item[1]))
        self._ticks.append(
            _Tick(
                self._start,
                _difference(wakes, self._wakes_before),
                _difference(commits, self._commits_before),
                {sys.intern(name): count for name, count in posts.items()},
                self._hint_lag,
            )
        )
        self._wakes_before, self._commits_before = wakes, commits
        self._posts, self._hint_lag = {}, 0.0
        self._start = self._totals()

    def window(self, seconds: float) -> Window:
        """Returns what was counted in the last seconds: at least so many, and up to a TICK more.

        Less if the server started only then. `seconds`: at most MAX_WINDOW.
        """
        now, start = self._totals(), self._start
        wakes = [0] * len(self._wakes_before)
        commits = [0] * len(self._commits_before)
        _add(wakes, _difference(self.wake_seconds.counts, self._wakes_before))
        _add(commits, _difference(self.commit_seconds.counts, self._commits_before))
        posts, hint_lag = Counter(self._posts), self._hint_lag
        for tick in reversed(self._ticks):
            if start.time <= now.time - seconds:
                break
            start = tick.start
            _add(wakes, tick.wakes)
            _add(commits, tick.commits)
            posts.update(tick.posts)
            hint_lag = max(hint_lag, tick.hint_lag)
        return Window(
            seconds=now.time - start.time,
            posted=now.posted - start.posted,
            delivered=now.delivered - start.delivered,
            calls=now.calls - start.calls,
            failed=now.failed - start.failed,
            wakes=wakes,
            commits=commits,
            posts=posts,
            hint_lag=hint_lag,
        )

    def _totals(self) -> _Totals:
        calls = sum(method.ended for method in (*self.methods.values(), self.unknown))
        return _Totals(time.monotonic(), self.posted, self.delivered, calls, self.failed)


def _difference(now: Sequence[int], before: Sequence[int]) -> list[tuple[int, int]]:
    """Returns by how much counts have grown, by index, without those that have not."""
    if now == before:
        return []
    pairs = enumerate(zip(now, before, strict=True))
    return [(at, count - earlier) for at, (count, earlier) in pairs if count != earlier]


def _add(counts: list[int], growth: Iterable[tuple[int, int]]) -> None:
    for at, count in growth:
        counts[at] += count
