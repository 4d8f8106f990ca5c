"""Calls that end tokens, cancelled while their commit waits for the file's write lock."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.callers import Caller, create_token, operator
from tests.connections import connected
from tests.locks import locked
from tests.polling import until_known
from tests.refusals import refused
from tests.rpcs import send
from tests.serving import AdminStub, ServerProcess
from tests.test_tokens import listed
from threadbus.v1.admin_service_pb2 import RevokeTokenRequest
from threadbus.v1.admin_service_pb2_grpc import AdminServiceStub
from threadbus.v1.agent_service_pb2 import (
    GetAgentRequest,
    RotateTokenRequest,
    UnregisterAgentRequest,
)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["revoked", "rotated", "unregistered"])
async def test_a_call_that_ends_a_token_does_so_though_it_is_cancelled(
    tmp_path: Path, how: str
) -> None:
    flags = ("--auth", "required", "--fallback-interval", "0", "--hints", "off")
    with ServerProcess(tmp_path / "bus.db", *flags) as server:
        boss = operator(server)
        async with connected(server.address) as client:
            admin: AdminStub = AdminServiceStub(client.channel)
            created = await create_token(client.channel, boss, "ann")
            caller = Caller("ann", created.secret)
            await client.agents.GetAgent(GetAgentRequest(), metadata=caller.metadata)
            request = {
                "revoked": RevokeTokenRequest(token_id=created.token.token_id),
                "rotated": RotateTokenRequest(agent="ann"),
                "unregistered": UnregisterAgentRequest(agent="ann"),
            }[how]
            with locked(server.db):
                call: Any = send(client.channel, request, boss.metadata)
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(1):  # by then it waits for the lock
                        await call
            token_id = created.token.token_id

            async def ended() -> bool:
                tokens = await listed(admin, boss, "ann")
                return token_id not in [token.token_id for token in tokens]

            await until_known(ended)
            late = client.agents.GetAgent(GetAgentRequest(), metadata=caller.metadata)
            assert (await refused(late)).code == grpc.StatusCode.UNAUTHENTICATED
