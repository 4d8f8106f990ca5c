"""Registers many agents, then sends one heartbeat for each, spread evenly over `seconds`."""

import asyncio
import json
import secrets
import sys
from typing import Any

import grpc.aio
import uvloop

from bus_client.channel import open_channel
from threadbus.v1.agent_pb2 import PRESENCE_IDLE
from threadbus.v1.agent_service_pb2 import RegisterAgentRequest
from threadbus.v1.agent_service_pb2_grpc import AgentServiceStub
from threadbus.v1.bus_service_pb2 import HeartbeatRequest
from threadbus.v1.bus_service_pb2_grpc import BusServiceStub

_AT_ONCE = 64


async def _main(job: dict[str, Any]) -> dict[str, Any]:
    tokens = [secrets.token_urlsafe(32) for _ in range(job["agents"])]
    failed: list[str] = []
    async with open_channel(job["address"], None) as channel:
        agents, bus = AgentServiceStub(channel), BusServiceStub(channel)
        names = iter(enumerate(tokens))

        async def register() -> None:
            for number, token in names:
                request = RegisterAgentRequest(agent=f"bench-{number}", token=token)
                await agents.RegisterAgent(request, timeout=60)

        await asyncio.gather(*(register() for _ in range(_AT_ONCE)))
        await asyncio.sleep(5.0)  # two checkpoints, which write all that is pending
        print("ready", flush=True)
        loop = asyncio.get_running_loop()
        began = loop.time()

        async def beat(number: int, token: str) -> None:
            due = began + job["seconds"] * number / len(tokens)
            await asyncio.sleep(max(due - loop.time(), 0.0))
            try:
                await bus.Heartbeat(
                    HeartbeatRequest(state=PRESENCE_IDLE),
                    timeout=60,
                    metadata=(("authorization", f"Bearer {token}"),),
                )
            except grpc.aio.AioRpcError as error:
                failed.append(f"{error.code().name}: {error.details()}")

        await asyncio.gather(*(beat(number, token) for number, token in enumerate(tokens)))
    return {"failed": failed}


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(_main(json.loads(sys.argv[1])))))
