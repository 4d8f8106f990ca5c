"""Rotating a token, and whether the old one still works."""

import grpc
from google.protobuf.duration_pb2 import Duration

from tests.callers import Caller
from tests.refusals import refused
from tests.serving import AgentStub, BusStub
from threadbus.v1.agent_service_pb2 import RotateTokenRequest
from threadbus.v1.bus_service_pb2 import GetServerInfoRequest

__all__ = ["caller_name", "expired", "rotate"]


async def rotate(agents: AgentStub, old: Caller, grace: Duration | None = None) -> Caller:
    """Rotate the agent's token; returns the agent with its new one."""
    request = RotateTokenRequest(grace=grace)
    answer = await agents.RotateToken(request, metadata=old.metadata)
    return Caller(old.name, answer.token)


async def caller_name(bus: BusStub, caller: Caller) -> str:
    """Returns the name by which the server knows a caller."""
    request = GetServerInfoRequest()
    return (await bus.GetServerInfo(request, metadata=caller.metadata, wait_for_ready=True)).agent


async def expired(bus: BusStub, caller: Caller) -> bool:
    """Returns whether a caller's token is refused as rotated and expired."""
    try:
        await caller_name(bus, caller)
    except grpc.aio.AioRpcError as error:
        assert error.code() == grpc.StatusCode.UNAUTHENTICATED
        assert (await refused(caller_name(bus, caller))).reason == "TOKEN_EXPIRED"
        return True
    return False
