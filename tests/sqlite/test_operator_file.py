"""The operator's token in the file beside the database, and other tokens of operators."""

import contextlib
from pathlib import Path

import grpc

from tests.callers import operator, operator_token_file, with_token
from tests.connections import connected
from tests.refusals import refused
from tests.refused_start import refused_start
from tests.serving import AdminStub, ServerProcess
from tests.test_tokens import listed
from threadbus.v1.admin_service_pb2 import RevokeTokenRequest
from threadbus.v1.admin_service_pb2_grpc import AdminServiceStub
from threadbus.v1.agent_service_pb2 import GetAgentRequest


async def test_operators_tokens_outlive_a_new_file_and_a_revoked_one_ends_for_good(
    tmp_path: Path,
) -> None:
    with ServerProcess(tmp_path / "bus.db", "--auth", "required") as server:
        file = operator_token_file(server.db)
        first = operator(server)
        async with connected(server.address) as client:
            second = await with_token(client.channel, first, scopes=["admin"])
            reader = await with_token(client.channel, first, scopes=["read"])
        server.stop()
        file.unlink()
        server.start()  # with a new file
        third = operator(server)
        async with connected(server.address) as client:
            admin: AdminStub = AdminServiceStub(client.channel)
            await listed(admin, second)
            call = client.agents.GetAgent(GetAgentRequest(), metadata=first.metadata)
            assert (await refused(call)).reason == "TOKEN_INVALID"
            await client.agents.GetAgent(GetAgentRequest(), metadata=reader.metadata)
            mine = [token.token_id for token in await listed(admin, second)]
            for token_id in mine:
                request = RevokeTokenRequest(token_id=token_id)
                with contextlib.suppress(grpc.aio.AioRpcError):  # one is that of this call
                    await admin.RevokeToken(request, metadata=second.metadata)
            for caller in (third, reader):
                call = client.agents.GetAgent(GetAgentRequest(), metadata=caller.metadata)
                assert (await refused(call)).reason == "TOKEN_INVALID"
            assert len(await listed(admin, second)) == 1
        server.stop()
        line = refused_start(server.db)
        assert f"the operator's token in {file} was revoked: delete the file" in line
        file.unlink()
        server.start()
        async with connected(server.address) as client:
            admin = AdminServiceStub(client.channel)
            assert len(await listed(admin, operator(server))) == 2
