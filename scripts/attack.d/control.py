"""No attack: measures the effect of the machine and of the measurement on the innocent agent."""

from target import Attack, Outcome, Target


def _busy(target: Target) -> Outcome:
    target.ready()
    while target.left() > 0:
        pass
    return Outcome(did="nothing to the server")


ATTACKS = [
    Attack(
        name="control",
        what="nothing: only keeps its own core busy; fails on a machine that is too busy",
        run=_busy,
    )
]
