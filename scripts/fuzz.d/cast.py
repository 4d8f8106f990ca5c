"""The agents and threads that calls name, so that the calls pass validation.

Calls close and delete the threads, and unregister agents, whose names cannot be used again. So
every thousand calls get a new cast.
"""

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from random import Random

import grpc

from threadbus.v1 import agent_service_pb2 as agent
from threadbus.v1 import bus_service_pb2 as bus
from threadbus.v1 import thread_service_pb2 as thread
from threadbus.v1.agent_service_pb2_grpc import AgentServiceStub
from threadbus.v1.bus_service_pb2_grpc import BusServiceStub
from threadbus.v1.message_pb2 import Attachment
from threadbus.v1.thread_service_pb2_grpc import ThreadServiceStub

#: The number of calls with the same agents and threads.
SCENE = 1_000
AGENTS, THREADS = 24, 12
#: The number of agents, at the end of the list, that destructive calls name.
SPENT = 12

#: Deadline in seconds of a call that prepares the scene.
TIMEOUT = 30.0


@dataclass(slots=True)
class Cast:
    """The agents and threads of one scene."""

    seed: int
    scene: int
    operator_token: str = ""
    #: Values that the server returned while the scene was prepared.
    epochs: list[str] = field(default_factory=list)
    page_tokens: list[str] = field(default_factory=list)

    @property
    def operator(self) -> tuple[tuple[str, str], ...]:
        """The metadata of operator calls; empty if the operator token is not known."""
        if not self.operator_token:
            return ()
        return (("authorization", f"Bearer {self.operator_token}"),)

    @property
    def agents(self) -> list[str]:
        return [f"f{self._sign}-{at}" for at in range(AGENTS)]

    @property
    def threads(self) -> list[str]:
        return [f"F{self._sign}-{at}" for at in range(THREADS)]

    @property
    def large_thread(self) -> str:
        """The thread for messages of megabytes. It is rarely read, as that takes long."""
        return f"F{self._sign}-large"

    @property
    def _sign(self) -> str:
        """Part of a scene's names. A damaged name never becomes one of the next scene."""
        return hashlib.sha256(f"{self.seed}/{self.scene}".encode()).hexdigest()[:8]

    def token(self, name: str) -> str:
        """Returns the token with which an agent registers."""
        return hashlib.sha256(f"{self.seed}/{name}".encode()).hexdigest()

    def an_agent(self, rng: Random, *, destructive: bool) -> str:
        """Returns a random agent, for a destructive call one of those set aside for that."""
        return rng.choice(self.agents[-SPENT:] if destructive else self.agents)

    def a_thread(self, rng: Random) -> str:
        """Returns a random thread; earlier ones are more likely."""
        if rng.random() < 0.01:
            return self.large_thread
        return self.threads[min(rng.randrange(THREADS), rng.randrange(THREADS))]

    async def enter(self, channel: grpc.aio.Channel) -> None:
        """Register the agents, create the threads, post to them, and record what calls need."""
        agents, threads = AgentServiceStub(channel), ThreadServiceStub(channel)
        posts = BusServiceStub(channel)
        for name in self.agents:
            await agents.RegisterAgent(
                agent.RegisterAgentRequest(agent=name, token=self.token(name)),
                metadata=self.operator,
                timeout=TIMEOUT,
            )
        for at, name in enumerate([*self.threads, self.large_thread]):
            for who in range(at, at + 4):
                joiner = self.agents[who % AGENTS]
                metadata = (("authorization", f"Bearer {self.token(joiner)}"),)
                joined = await threads.JoinThread(
                    thread.JoinThreadRequest(thread=name, create=True),
                    metadata=metadata,
                    timeout=TIMEOUT,
                )
                await posts.PostMessage(
                    bus.PostMessageRequest(
                        thread=name,
                        content=f"from {joiner}",
                        request_id=f"r{who}",
                        mentions=[self.agents[-1]],
                        attachments=[Attachment(filename="a", raw=b"a")] if who == at else [],
                    ),
                    metadata=metadata,
                    timeout=TIMEOUT,
                )
            self.epochs.append(joined.cursor.epoch)
        async for page_token in _page_tokens(self, metadata, agents, threads):
            self.page_tokens.append(page_token)


async def _page_tokens(
    cast: Cast,
    metadata: tuple[tuple[str, str], ...],
    agents: AgentServiceStub,
    threads: ThreadServiceStub,
) -> AsyncIterator[str]:
    """Returns page tokens from the server, one for each listing that any caller may request."""
    participants = thread.ListParticipantsRequest(thread=cast.threads[0], page_size=2)
    for call, request in (
        (agents.ListAgents, agent.ListAgentsRequest(page_size=3)),
        (threads.ListThreads, thread.ListThreadsRequest(page_size=3)),
        (threads.ListParticipants, participants),
    ):
        page = await call(request, metadata=metadata, timeout=TIMEOUT)
        yield page.next_page_token
