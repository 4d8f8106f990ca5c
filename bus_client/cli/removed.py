"""Says that messages are not kept any more, as the thread's retention says."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import bus_client
from bus_client.cli import failures
from bus_client.cli.output import Output
from bus_client.cli.text import safe

if TYPE_CHECKING:
    from bus_client import CursorLost, Message

_REASON = "COMPACTED"


def removed_text(thread: str, after: int, first_seq: int) -> str:
    """Returns which messages after a seq are not kept any more, as a sentence."""
    if first_seq == after + 2:
        return f"Message #{after + 1} of {thread} is not kept any more."
    return f"Messages #{after + 1} to #{first_seq - 1} of {thread} are not kept any more."


def report_removed(out: Output, thread: str, after: int, first_seq: int) -> None:
    """Say on stderr which messages after a seq are not kept any more, if there are any.

    As JSON if the output is JSON, like an error.
    """
    if first_seq <= after + 1:
        return
    text = removed_text(thread, after, first_seq)
    if out.json:
        hint = f"There is nothing to do: reading goes on at #{first_seq}."
        error = bus_client.BusError(text, code="OUT_OF_RANGE", reason=_REASON, hint=hint)
        failures.report(error, json=True)
    else:
        out.note(text)


def is_removed(lost: CursorLost) -> bool:
    """Returns whether a position was lost because the messages after it are not kept any more."""
    return lost.reason == _REASON


async def past_removed(
    out: Output,
    wait: Callable[..., Awaitable[list[Message]]],
    *,
    timeout: float,
    acknowledges: bool,
) -> list[Message]:
    """Returns what a wait returns, past messages that are not kept any more, which is reported.

    Args:
        out: The verb's output.
        wait: Called with the arguments `timeout` and `on_resync`; a wait() of the SDK.
        timeout: Seconds to wait in all.
        acknowledges: Whether the next call of `wait` goes on after CursorLost. Else only the first
            thread of several that have lost messages is reported.

    Raises BusError as `wait`.
    """
    end = time.monotonic() + timeout
    on_resync = "raise"
    while True:
        try:
            return await wait(timeout=timeout, on_resync=on_resync)
        except bus_client.CursorLost as lost:
            if not is_removed(lost):
                raise
            report_lost(out, lost)
        timeout = max(end - time.monotonic(), 0.0)
        if not acknowledges:
            on_resync = "continue"


def report_lost(out: Output, lost: CursorLost) -> None:
    """As report_removed(), of a position that was lost."""
    report_removed(out, *_range(lost))


def lost_text(lost: CursorLost) -> str:
    """As removed_text(), of a position that was lost, and made safe."""
    return safe(removed_text(*_range(lost)))


def _range(lost: CursorLost) -> tuple[str, int, int]:
    return lost.position.thread, lost.requested.after_seq, lost.position.after_seq + 1
