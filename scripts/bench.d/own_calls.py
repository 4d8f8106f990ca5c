"""Calls to ThreadBus outside the measurements: register agents, create threads, count messages."""

import time
from collections.abc import Sequence

import grpc

from threadbus.v1.agent_service_pb2 import RegisterAgentRequest
from threadbus.v1.agent_service_pb2_grpc import AgentServiceStub
from threadbus.v1.thread_pb2 import Retention
from threadbus.v1.thread_service_pb2 import (
    CreateThreadRequest,
    GetThreadRequest,
    UpdateThreadRequest,
)
from threadbus.v1.thread_service_pb2_grpc import ThreadServiceStub

_OPTIONS = [("grpc.enable_http_proxy", 0)]


def register_agents(address: str, count: int) -> list[str]:
    """Register agents, a hundred at a time. Returns their tokens."""
    tokens: list[str] = []
    with grpc.insecure_channel(address, options=_OPTIONS) as channel:
        register = AgentServiceStub(channel).RegisterAgent
        for first in range(0, count, 100):
            answers = [
                register.future(RegisterAgentRequest(agent=f"bench-{number}"), timeout=60)
                for number in range(first, min(first + 100, count))
            ]
            tokens += [answer.result().token for answer in answers]
    return tokens


def create_threads(address: str, names: Sequence[str]) -> None:
    """Create threads, a hundred at a time."""
    with grpc.insecure_channel(address, options=_OPTIONS) as channel:
        create = ThreadServiceStub(channel).CreateThread
        for first in range(0, len(names), 100):
            answers = [
                create.future(CreateThreadRequest(thread=name), timeout=60)
                for name in names[first : first + 100]
            ]
            for answer in answers:
                answer.result()


def messages_in(address: str, names: Sequence[str]) -> int:
    """Returns the number of messages in these threads, in total."""
    with grpc.insecure_channel(address, options=_OPTIONS) as channel:
        get = ThreadServiceStub(channel).GetThread
        total = 0
        for first in range(0, len(names), 100):
            answers = [
                get.future(GetThreadRequest(thread=name), timeout=60)
                for name in names[first : first + 100]
            ]
            total += sum(answer.result().thread.head_seq for answer in answers)
        return total


def retain(address: str, thread: str, messages: int) -> None:
    """Let a thread keep so many messages."""
    request = UpdateThreadRequest(thread=thread, retention=Retention(max_messages=messages))
    request.update_mask.paths.append("retention")
    with grpc.insecure_channel(address, options=_OPTIONS) as channel:
        ThreadServiceStub(channel).UpdateThread(request, timeout=60)


def wait_until_removed(address: str, thread: str, first_seq: int) -> float:
    """Return once `first_seq` is the first one of a thread: when that was, by perf_counter."""
    with grpc.insecure_channel(address, options=_OPTIONS) as channel:
        get = ThreadServiceStub(channel).GetThread
        while get(GetThreadRequest(thread=thread), timeout=60).thread.first_seq < first_seq:
            time.sleep(0.05)
    return time.perf_counter()
