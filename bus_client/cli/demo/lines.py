"""The script of the demo: what its agents post. Real agents would ask a model."""

from __future__ import annotations

from dataclasses import dataclass

THREAD = "split-bug"
AGENTS = ("coder", "reviewer", "tester")

#: In another thread, the lead asks the expert. The second question remains unanswered.
QUESTIONS = "release"
FIRST, SECOND = "Can we release split()?", "Who tells the customers?"
ANSWER = "Yes: nothing else calls it."


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """An agent's reply to the newest message, which may be its own.

    Attributes:
        who: The agent.
        after: The seq of the newest message. 0 = the thread is empty.
        text: The reply.
        mentions: The agents that it mentions.
        on_cue: Whether the agent waits for a signal from the demo before posting this.
        posted: Whether the reply will be in the thread: not if it is refused, or its agent is
            killed first.
    """

    who: str
    after: int
    text: str
    mentions: tuple[str, ...] = ()
    on_cue: bool = False
    posted: bool = True


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
        posted=False,  # the reviewer is killed before it posts this
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
        posted=False,  # refused: the tester's reply comes first
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
#: The lines that are posted; the first one becomes message 1.
POSTED = [line for line in LINES if line.posted]
#: The seqs of two messages: the reviewer is killed while it replies to the first one, and its reply
#: to the second one is refused.
KILLED_AT, REFUSED_AT = (line.after for line in LINES if not line.posted)
