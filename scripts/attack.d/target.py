"""What an attack knows of the server it attacks, and what it says of itself."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from threadbus.v1 import bus_service_pb2

BUS = f"/{bus_service_pb2.DESCRIPTOR.services_by_name['BusService'].full_name}"
MIB = 2**20


@dataclass(slots=True)
class Target:
    """A server to attack, and for how long."""

    port: int
    #: Seconds of the attack.
    seconds: float
    #: Says that the attack is prepared, and returns when it may begin.
    wait: Callable[[], None]
    _end: float = field(default=0.0, init=False)

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return f"127.0.0.1:{self.port}"

    def ready(self) -> None:
        """All is prepared. Returns when the attack may begin; from then on its time runs."""
        self.wait()
        self._end = time.monotonic() + self.seconds

    def left(self) -> float:
        """Seconds until the attack is over."""
        return self._end - time.monotonic()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an attack went."""

    #: What was done, for people.
    did: str
    #: What the attacker saw of the server that must not be. Empty: nothing.
    wrong: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """One line of the table."""

    name: str
    #: What the attackers do, in one line.
    what: str
    #: Prepares, calls `Target.ready`, attacks.
    run: Callable[[Target], Outcome]
    #: `open` or `required`; attackers never have an operator's token.
    auth: str = "open"
