"""The interface of an attack: the server that it attacks, its outcome, its description."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from threadbus.v1 import bus_service_pb2

BUS = f"/{bus_service_pb2.DESCRIPTOR.services_by_name['BusService'].full_name}"
MIB = 2**20


@dataclass(slots=True)
class Target:
    """A server to attack, and the duration of the attack."""

    port: int
    #: Duration of the attack in seconds.
    seconds: float
    #: Reports that the attack is prepared, and returns when it may begin.
    wait: Callable[[], None]
    _end: float = field(default=0.0, init=False)

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return f"127.0.0.1:{self.port}"

    def ready(self) -> None:
        """Report that the attack is prepared. Returns when it may begin, and starts its clock."""
        self.wait()
        self._end = time.monotonic() + self.seconds

    def left(self) -> float:
        """Returns the seconds until the attack ends."""
        return self._end - time.monotonic()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The result of an attack."""

    #: A text that says what was done.
    did: str
    #: What was wrong with the server's responses, as the attacker saw it. Empty: nothing.
    wrong: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """An attack: one line of the output."""

    name: str
    #: What the attackers do, in one line.
    what: str
    #: Prepares, calls `Target.ready`, attacks.
    run: Callable[[Target], Outcome]
    #: The server's --auth: `open` or `required`. Attackers never have an operator token.
    auth: str = "open"
