"""What the agents of the demo say, where real ones would ask a model."""

from __future__ import annotations

from dataclasses import dataclass

THREAD = "split-bug"
AGENTS = ("coder", "reviewer", "tester")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What an agent makes of the message that it read last, or said last itself.

    Attributes:
        after: That message's seq. 0 = the thread is empty.
        on_cue: It takes so long over this as the demo wants it to.
        said: It will stand in the thread.
    """

    who: str
    after: int
    text: str
    mentions: tuple[str, ...] = ()
    on_cue: bool = False
    said: bool = True


LINES = [
    Line(
        who="coder",
        after=0,
        text="I fix split(100, 3): it loses a cent. Will you review?",
        on_cue=True,
    ),
    Line(
        who="reviewer",
        after=1,
        text="Yes. Give the odd cents to the first, not by luck.",
    ),
    Line(
        who="coder",
        after=2,
        text="Done:\n"
        "  share, rest = divmod(total, n)\n"
        "  return [share + (i < rest) for i in range(n)]",
    ),
    Line(
        who="reviewer",
        after=3,
        text="Reads well.",
        on_cue=True,
        said=False,  # it is killed over this thought
    ),
    Line(
        who="coder",
        after=3,
        text="You went quiet. For later: n = 0 is a ValueError now.",
        on_cue=True,
    ),
    Line(
        who="reviewer",
        after=4,
        text="I am back. #3 and #4 read well. Does it pass?",
    ),
    Line(
        who="coder",
        after=5,
        text="@tester, does the new split() pass?",
        mentions=("tester",),
    ),
    Line(
        who="tester",
        after=6,
        text="1 of 214 fails: split(-100, 3) favours the last.",
    ),
    Line(
        who="reviewer",
        after=6,
        text="Approved. Merge it.",
        on_cue=True,
        said=False,  # the tester's answer is there first
    ),
    Line(
        who="reviewer",
        after=7,
        text="I was about to approve. Refunds first, then merge it.",
    ),
    Line(
        who="coder",
        after=8,
        text="Refunds are split fairly now, all 214 pass. Merged.",
    ),
]
#: Message n of the thread is number n of these.
SAID = [line for line in LINES if line.said]
#: The messages over which the reviewer is killed, and comes too late.
KILLED_OVER, STALE_AFTER = (line.after for line in LINES if not line.said)
