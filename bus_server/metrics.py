"""The metrics of a server for Prometheus.

They are made when they are asked for, from what is counted anyway. No label is the name of a thread
or an agent, or an address: there may be any number of them, and anyone who can reach the port could
read them.
"""

from collections.abc import Iterable, Sequence

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from bus_server.histogram import TIMES, Histogram
from bus_server.statistics import BATCH_SIZES, CALL_TIMES, MethodStatistics, Statistics
from threadbus.v1.admin_service_pb2 import GetStatusResponse
from threadbus.v1.agent_pb2 import Presence
from threadbus.v1.errors_pb2 import ErrorReason

#: The bounds of times in the metrics: 10 µs, 25 µs, 50 µs … 1,000 s.
COARSE_TIMES = (*(bound for bound in TIMES if f"{bound:.1e}"[:3] in ("1.0", "2.5", "5.0")),)
_METHOD = ("grpc_type", "grpc_service", "grpc_method")


class Metrics:
    """The metrics of one server (a collector of prometheus_client)."""

    def __init__(self, statistics: Statistics) -> None:
        self._statistics = statistics
        #: What was last read of the server; None: nothing yet.
        self.status: GetStatusResponse | None = None

    def collect(self) -> Iterable[Metric]:
        """Yields all metrics but those of the process. prometheus_client calls this."""
        yield from _calls(list(self._statistics.methods.values()))
        yield from _counts(self._statistics)
        if self.status is not None:
            yield from _state(self.status)


def _calls(methods: Sequence[MethodStatistics]) -> Iterable[Metric]:
    """Yields the metrics of calls. Methods that this server does not have are not in them."""
    started = CounterMetricFamily(
        "grpc_server_started",
        "Calls that began. Those that gRPC itself refused are not counted, here and below: to "
        "services that are not served, for example.",
        labels=_METHOD,
    )
    handled = CounterMetricFamily(
        "grpc_server_handled",
        "Calls that ended, by status code. Canceled also if the client disconnected, or its "
        "deadline passed.",
        labels=(*_METHOD, "grpc_code"),
    )
    received = CounterMetricFamily(
        "grpc_server_msg_received", "Requests read, those of client streams, too.", labels=_METHOD
    )
    sent = CounterMetricFamily(
        "grpc_server_msg_sent",
        "Responses given to gRPC; of streams, each frame.",
        labels=_METHOD,
    )
    seconds = HistogramMetricFamily(
        "grpc_server_handling_seconds",
        "Seconds from the start of a call to its end. For streams, how long they were open: a wait "
        "may last for hours. Only of methods that were called.",
        labels=_METHOD,
    )
    for each in methods:
        labels = [each.kind, each.service, each.method]
        started.add_metric(labels, each.started)
        for code, count in ({"OK": each.succeeded} | each.failures).items():
            handled.add_metric([*labels, code], count)
        received.add_metric(labels, each.received)
        sent.add_metric(labels, each.sent)
        if each.started:
            _add(seconds, labels, each.seconds, CALL_TIMES)
    return started, handled, received, sent, seconds


def _counts(statistics: Statistics) -> Iterable[Metric]:
    """Yields what was counted of messages, commits and refusals."""
    yield CounterMetricFamily(
        "threadbus_messages_posted",
        "Messages posted through this server. Includes edits, and what the server itself posts: "
        "notices and changes of threads. Repeated posts count once.",
        value=statistics.posted,
    )
    yield CounterMetricFamily(
        "threadbus_messages_delivered",
        "Messages written to waits: one for each wait that it was sent to.",
        value=statistics.delivered,
    )
    rejections = CounterMetricFamily(
        "threadbus_rejections",
        "Refusals of calls, and of posts in PostMessages, by ErrorReason. Errors without a reason, "
        "such as a lost outcome, are only in grpc_server_handled_total.",
        labels=["reason"],
    )
    reasons = dict.fromkeys((_short(reason) for reason in ErrorReason.keys()[1:]), 0)
    for reason, count in (reasons | statistics.rejections).items():
        rejections.add_metric([reason], count)
    yield rejections
    wakes = HistogramMetricFamily(
        "threadbus_wake_seconds",
        "Seconds from a commit of this server to when the frame with its messages was written to a "
        "wait that had nothing older to read: one for each wait. Those are not counted that are "
        "behind by more than the last 8,192 commits to threads with waits.",
    )
    _add(wakes, [], statistics.wake_seconds, COARSE_TIMES)
    yield wakes
    commits = HistogramMetricFamily(
        "threadbus_commit_seconds",
        "Seconds from when the store got a batch of posts and other writes to when it was "
        "committed: on disk, with --durability full. Batches that failed are not counted.",
    )
    _add(commits, [], statistics.commit_seconds, COARSE_TIMES)
    yield commits
    batches = HistogramMetricFamily(
        "threadbus_batch_posts",
        "Messages in a commit, of the commits that stored any. Posts that arrive together share "
        "a commit.",
    )
    _add(batches, [], statistics.batch_posts, BATCH_SIZES)
    yield batches


def _state(status: GetStatusResponse) -> Iterable[Metric]:
    """Yields how the server is now."""
    info = {"version": status.version, "store": status.store_kind}
    yield InfoMetricFamily(
        "threadbus", "The version of the server, and the kind of its store.", value=info
    )
    agents = GaugeMetricFamily(
        "threadbus_agents",
        "Registered agents of the store by presence, the same at each of its servers. UNSPECIFIED: "
        "they were never seen. At most 10 s old, as all that is said to be of the store.",
        labels=["presence"],
    )
    counts = dict.fromkeys(Presence.values(), 0)
    counts |= {each.presence: each.count for each in status.agents}
    for presence, count in counts.items():
        agents.add_metric([_short(Presence.Name(presence))], count)
    yield agents
    gauges = {
        "threadbus_open_waits": (status.open_waits, "Open waits at this server."),
        "threadbus_queued_posts": (
            status.queued_posts,
            "Posts that wait for the store, or are being committed; a batch of PostMessages counts "
            "as one. From --max-queued-posts on, callers with several of them are refused with "
            "STORE_BUSY, and from a quarter more on, all.",
        ),
        "threadbus_queued_bytes": (
            status.queued_bytes,
            "Bytes of all writes that wait for the store, or are being committed. From "
            "--max-queued-bytes on, as above.",
        ),
        "threadbus_store_lag_seconds": (
            status.store_lag.ToMicroseconds() / 1e6,
            "Seconds for which the oldest write has waited for its outcome. 0: none waits.",
        ),
        "threadbus_hint_lag_seconds": (
            status.hint_lag.ToMicroseconds() / 1e6,
            "Seconds after which this server learned of what another server of the store committed "
            "to a thread that a wait here names: the most in the last minute, measured at most "
            "twice a second. 0: there was nothing to learn.",
        ),
        "threadbus_requests_open": (
            status.open_requests,
            "Requests of the store that are open: an agent was asked for a reply and has not given "
            "it.",
        ),
        "threadbus_requests_overdue": (
            status.overdue_requests,
            "Open requests of the store whose time is over.",
        ),
        "threadbus_store_bytes": (
            status.store_bytes,
            "Bytes of the database file, or of the database in PostgreSQL.",
        ),
        "threadbus_store_free_bytes": (
            status.free_bytes,
            "Bytes in the database file that can be reused. 0 with PostgreSQL, which does not say.",
        ),
        "threadbus_log_bytes": (
            status.log_bytes,
            "Bytes of SQLite's write-ahead log. 0 with PostgreSQL.",
        ),
        "threadbus_store_failing": (
            int(status.store_failing),
            "1 while the store cannot be read or written, as the health service reports it; else "
            "0. What is said to be of the store is then as old as the last time that it could be "
            "read.",
        ),
    }
    if status.HasField("disk_free_bytes"):
        gauges["threadbus_disk_free_bytes"] = (
            status.disk_free_bytes,
            "Bytes that are free, for users other than root, in the file system of the database "
            "file. Missing with PostgreSQL.",
        )
    for name, (value, help_text) in gauges.items():
        yield GaugeMetricFamily(name, help_text, value=value)


def _add(
    family: HistogramMetricFamily,
    labels: Sequence[str],
    histogram: Histogram,
    bounds: Sequence[float],
) -> None:
    """Add a histogram to a metric. `bounds`: some of its own, which the metric has."""
    counts, wanted = histogram.counts.copy(), set(bounds)
    buckets, total = list[tuple[str, float]](), 0
    for bound, count in zip(histogram.bounds, counts, strict=False):
        total += count
        if bound in wanted:
            buckets.append((str(bound), total))
    buckets.append(("+Inf", total + counts[-1]))
    family.add_metric(labels, buckets, histogram.sum)


def _short(name: str) -> str:
    """Returns the name of a value of an enum of the contract, without its prefix."""
    return name.removeprefix("ERROR_REASON_").removeprefix("PRESENCE_")
