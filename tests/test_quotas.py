"""--threads-per-caller and --agents-per-caller: how many of them one caller may create."""

import pytest

from bus_server.rates import Quota
from tests.callers import operator, register
from tests.conftest import StartServer
from tests.connections import connected
from tests.refusals import refused
from threadbus.v1.agent_service_pb2 import RegisterAgentRequest
from threadbus.v1.thread_service_pb2 import (
    CreateThreadRequest,
    DeleteThreadRequest,
    JoinThreadRequest,
)

DAY = 86_400 * 1_000_000_000  # nanoseconds


def test_a_quota_is_used_up_at_once_and_comes_back_over_a_day() -> None:
    quota = Quota("threads", 4)
    assert [quota.take("a", 0) for _ in range(6)] == [True] * 4 + [False] * 2
    assert quota.take("b", 0)
    assert [quota.take("a", DAY * hour // 24) for hour in (5, 6, 9, 12)] == [0, 1, 0, 1]
    assert "in 6 h" in str(quota.exceeded("a", DAY // 2))
    assert [quota.take("a", 9 * DAY) for _ in range(6)] == [True] * 4 + [False] * 2


async def test_an_agent_that_has_created_its_threads_can_only_join_others(
    start_server: StartServer, name: str
) -> None:
    server = start_server("--threads-per-caller", "2")
    async with connected(server.address) as client:
        agent = (await register(client.agents, name)).metadata
        create = CreateThreadRequest(thread=f"{name}-1")
        await client.threads.CreateThread(create, metadata=agent)
        join = JoinThreadRequest(thread=f"{name}-2", create=True)
        assert (await client.threads.JoinThread(join, metadata=agent)).created

        refusal = await refused(
            client.threads.CreateThread(CreateThreadRequest(thread=f"{name}-3"), metadata=agent)
        )
        assert (refusal.reason, refusal.metadata) == ("QUOTA_EXCEEDED", {"limit": "2"})
        assert refusal.details == ["ErrorInfo", "QuotaFailure"]
        assert refusal.quotas == ["new threads of one caller"]
        join = JoinThreadRequest(thread=f"{name}-3", create=True)
        assert (await refused(client.threads.JoinThread(join, metadata=agent))).reason == (
            "QUOTA_EXCEEDED"
        )
        # Threads that exist are joined, also by those who would create them.
        for number in (1, 2):
            join = JoinThreadRequest(thread=f"{name}-{number}", create=True)
            assert not (await client.threads.JoinThread(join, metadata=agent)).created
        # A thread that is deleted gives nothing back: an agent could create any number in turn.
        delete = DeleteThreadRequest(thread=f"{name}-1")
        await client.threads.DeleteThread(delete, metadata=agent)
        assert (await refused(client.threads.CreateThread(create, metadata=agent))).reason == (
            "QUOTA_EXCEEDED"
        )


async def test_what_was_not_created_does_not_count(start_server: StartServer, name: str) -> None:
    server = start_server("--threads-per-caller", "2", "--agents-per-caller", "2")
    async with connected(server.address) as client:
        for _ in range(4):
            await client.threads.JoinThread(JoinThreadRequest(thread=name, create=True))
        for _ in range(4):
            exists = client.threads.CreateThread(CreateThreadRequest(thread=name))
            assert (await refused(exists)).reason == "THREAD_EXISTS"
        await client.threads.CreateThread(CreateThreadRequest(thread=f"{name}-2"))

        agent = await register(client.agents, name)
        for _ in range(4):
            again = RegisterAgentRequest(agent=name, token=agent.token)
            assert not (await client.agents.RegisterAgent(again)).created
            taken = client.agents.RegisterAgent(RegisterAgentRequest(agent=name))
            assert (await refused(taken)).reason == "AGENT_EXISTS"
        await register(client.agents, f"{name}-2")


async def test_callers_without_a_token_count_as_one(start_server: StartServer, name: str) -> None:
    server = start_server("--threads-per-caller", "2", "--agents-per-caller", "2")
    for number in range(2):
        async with connected(server.address) as client:  # a connection for each
            await register(client.agents, f"{name}-{number}")
            await client.threads.CreateThread(CreateThreadRequest(thread=f"{name}-{number}"))
    async with connected(server.address) as client:
        create = client.threads.CreateThread(CreateThreadRequest(thread=name))
        assert (await refused(create)).reason == "QUOTA_EXCEEDED"
        refusal = await refused(client.agents.RegisterAgent(RegisterAgentRequest(agent=name)))
        assert (refusal.reason, refusal.metadata) == ("QUOTA_EXCEEDED", {"limit": "2"})
        assert refusal.quotas == ["new agents of one caller"]


async def test_an_agent_registers_again_though_the_quota_is_used_up(
    start_server: StartServer, name: str
) -> None:
    server = start_server("--agents-per-caller", "1")
    async with connected(server.address) as client:
        agent = await register(client.agents, name)
        again = RegisterAgentRequest(agent=name, token=agent.token)
        answer = await client.agents.RegisterAgent(again)
        assert (answer.created, answer.token) == (False, agent.token)


@pytest.mark.parametrize("auth", ["open", "required"])
async def test_operators_are_exempt(start_server: StartServer, name: str, auth: str) -> None:
    flags = ["--threads-per-caller", "1", "--agents-per-caller", "1", "--auth", auth]
    server = start_server(*flags)
    async with connected(server.address) as client:
        by = operator(server)
        for number in range(3):
            await register(client.agents, f"{name}-{number}", by)
            create = CreateThreadRequest(thread=f"{name}-{number}")
            await client.threads.CreateThread(create, metadata=by.metadata)
            join = JoinThreadRequest(thread=f"{name}-{number}-joined", create=True)
            await client.threads.JoinThread(join, metadata=by.metadata)
