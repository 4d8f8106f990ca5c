"""What threads keep, and how their entries say it."""

from collections.abc import Sequence

from google.protobuf.duration_pb2 import Duration

from bus_server import cleaner
from threadbus.v1.thread_pb2 import Retention

EVERYTHING = Retention()
#: Retentions, and how many of the newest entries they keep: none is as young as the age, and each
#: has more than one byte.
SHORT: Sequence[tuple[Retention, int]] = (
    (Retention(max_age=Duration(nanos=1_000)), 0),
    (Retention(max_messages=1), 1),
    (Retention(max_bytes=1), 1),
    (Retention(max_messages=3), 3),
    (Retention(max_messages=8, max_bytes=1_000_000), 8),
)


def clean_all_the_time() -> None:
    """Let this server look for old entries all the time, so that it removes them between calls."""
    cleaner.PAUSE = cleaner.PAUSE_PER_THREAD = 0.005


def kept(retention: Retention) -> str:
    """Returns a retention as the entry says it that sets it."""
    parts = ["0.000001 seconds"] if retention.HasField("max_age") else []
    parts += [f"{retention.max_messages} messages"] if retention.max_messages else []
    parts += [f"{retention.max_bytes:,} bytes"] if retention.max_bytes else []
    return ", ".join(parts) or "everything"
