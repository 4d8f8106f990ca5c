"""No attack at all: what the machine, and the measuring, do to the innocent agent."""

from target import Attack, Outcome, Target


def _busy(target: Target) -> Outcome:
    target.ready()
    while target.left() > 0:
        pass
    return Outcome(did="nothing to the server")


ATTACKS = [
    Attack(
        name="control",
        what="nothing: only keeps its own core busy; fails on a machine that has too much to do",
        run=_busy,
    )
]
