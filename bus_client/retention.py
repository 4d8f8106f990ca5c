"""How long a thread keeps its messages."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, TypeAlias

from google.protobuf.duration_pb2 import Duration

from bus_client.requests import NO_LIMIT, refuse, seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long a thread keeps its messages, edits and other entries.

    Those over a limit are removed within seconds, oldest first. With all limits 0, the thread keeps
    everything, whatever the server's default is.

    Attributes:
        max_age: How old an entry may become: seconds, or a timedelta. 0 or infinity = no limit.
        max_messages: How many entries are kept. 0 = no limit.
        max_bytes: How many bytes of entries are kept, as they are stored; the newest always is. 0 =
            no limit.
    """

    max_age: float | timedelta = 0.0
    max_messages: int = 0
    max_bytes: int = 0


#: What a thread's retention can be set to; "default" = that of the server.
NewRetention: TypeAlias = Retention | Literal["default"] | None


def retention_fields(retention: NewRetention) -> dict[str, Any] | None:
    """Returns the fields of a retention, for build(); None for "default" and None.

    Raises:
        InvalidArgument: It is something else, or its max_age is negative or not a time.
    """
    if retention is None or retention == "default":
        return None
    if not isinstance(retention, Retention):
        refuse("retention", 'must be a Retention or "default"')
    age = retention.max_age
    if isinstance(age, timedelta):
        age = age.total_seconds()
    age = seconds("retention.max_age", age)
    fields: dict[str, Any] = {
        "max_messages": retention.max_messages,
        "max_bytes": retention.max_bytes,
    }
    if 0 < age < NO_LIMIT:
        fields["max_age"] = Duration()
        fields["max_age"].FromNanoseconds(math.ceil(age * 1e9))
    return fields
