"""Asks a server's health service, and explains calls that had no answer in time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import bus_client

if TYPE_CHECKING:
    import grpc.aio

    from bus_client.cli.session import Session

_SERVING = b"\x08\x01"  # grpc.health.v1.HealthCheckResponse(status=SERVING)
_TIMEOUT = 5.0  # seconds

#: What to do about a server that is not serving.
ADVICE = (
    "It is shutting down, or its store does not work: a disk that is full or fails, a database "
    "that is away. Its log says which. Clients wait, and go on by themselves when it works again."
)


async def is_serving(session: Session) -> bool:
    """Returns whether the health service reports SERVING; true if there is no health service.

    Raises:
        BusError: The call failed, or had no response within 5 s.
    """
    import grpc.aio  # imported only when needed: --help must be fast

    from bus_client.status import from_rpc_error

    async with session.open_channel() as channel:
        # Two bytes on the wire: not worth a dependency on grpcio-health-checking.
        check: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            "/grpc.health.v1.Health/Check"
        )
        try:
            return await check(b"", timeout=_TIMEOUT) == _SERVING
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                return True
            raise from_rpc_error(error) from None


async def explain(error: bus_client.BusError, session: Session) -> None:
    """Say in `error` whether the server is there, if a call had no answer before its deadline."""
    late = isinstance(error, (bus_client.Unreachable, bus_client.OutcomeUnknown))
    if not late or error.code != "DEADLINE_EXCEEDED":
        return
    try:
        serving = await is_serving(session)
    except bus_client.BusError:
        return  # as the error says, it does not answer
    if serving:
        what = f"{session.server} is there, but did not answer the call in time"
        hint = "Its log may say why. Try again, or wait longer with --timeout."
    else:
        what, hint = f"{session.server} is there, but not serving", ADVICE
    if isinstance(error, bus_client.OutcomeUnknown):  # its own hint says how to repeat the call
        error.message = f"It is unknown whether this was done: {what}."
    else:
        error.message, error.hint = f"{what}.", hint
