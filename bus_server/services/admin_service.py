"""AdminService: calls for operators."""

import heapq
import re
from collections.abc import Iterator

from bus_server.auth import Caller, require_scope
from bus_server.errors import ValidationFailed
from bus_server.presence.remote_waits import RemoteWaits
from bus_server.services import validation
from bus_server.services.pages import take_page
from bus_server.waits import OpenWait, Waits
from threadbus.v1 import admin_service_pb2 as pb

#: A wait's place in the list: its start time in microseconds, its server and its number.
_Key = tuple[int, str, int]
_PAGE_TOKEN = re.compile(r"([0-9]{1,20})-([0-9a-f]{16})-([0-9]{1,20})", re.ASCII)


class AdminService:
    """The servicer of threadbus.v1.AdminService. Methods raise BusError as the proto says."""

    def __init__(self, server: str, waits: Waits, remote: RemoteWaits) -> None:
        """`server`: this server's name on the store."""
        self._server = server
        self._waits = waits
        self._remote = remote

    async def ListWaits(self, request: pb.ListWaitsRequest, caller: Caller) -> pb.ListWaitsResponse:
        require_scope(caller, "admin")
        if request.agent:
            validation.agent_name("agent", request.agent)
        if request.thread:
            validation.thread_name("thread", request.thread)
        size = validation.page_size("page_size", request.page_size)
        after = _parse(request.page_token) if request.page_token else (-1, "", 0)
        later = (each for each in self._find(request.agent, request.thread) if each[0] > after)
        found = heapq.nsmallest(size + 1, later, key=lambda each: each[0])
        listed = take_page((_to_proto(wait) for _, wait in found), size)
        response = pb.ListWaitsResponse(waits=listed)
        if len(found) > len(listed):
            response.next_page_token = "-".join(map(str, found[len(listed) - 1][0]))
        return response

    def _find(self, agent: str, thread: str) -> Iterator[tuple[_Key, OpenWait | pb.Wait]]:
        for number, wait in self._waits.find(agent, thread, 0):
            yield (wait.start_time, self._server, number), wait
        for server, number, remote in self._remote.find(agent, thread):
            yield (remote.start_time.ToMicroseconds(), server, number), remote


def _to_proto(wait: OpenWait | pb.Wait) -> pb.Wait:
    return wait if isinstance(wait, pb.Wait) else wait.to_proto()


def _parse(page_token: str) -> _Key:
    """Returns the key in a page token. Raises ValidationFailed."""
    match = _PAGE_TOKEN.fullmatch(page_token)
    if match is None:
        raise ValidationFailed(("page_token", "not a page token of this server"))
    return int(match[1]), match[2], int(match[3])


SERVICE = pb.DESCRIPTOR.services_by_name["AdminService"]
