"""Requests: the list of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

from bus_client.calls import Calls
from bus_client.requests import build
from threadbus.v1.bus_service_pb2 import ListRequestsRequest
from threadbus.v1.request_pb2 import Request, RequestState


async def listed(
    calls: Calls,
    *,
    asker: str,
    agent: str,
    thread: str,
    states: Iterable[RequestState.ValueType],
) -> AsyncIterator[Request]:
    """Yields the requests of BusClient.requests()."""
    request = build(ListRequestsRequest, asker=asker, agent=agent, thread=thread, states=states)
    async for page in calls.pages(calls.bus.ListRequests, request):
        for found in page.requests:
            yield found
