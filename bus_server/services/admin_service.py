"""AdminService: calls for operators."""

from bus_server.auth import Caller, require_scope
from bus_server.errors import ValidationFailed
from bus_server.services import validation
from bus_server.services.pages import take_page
from bus_server.waits import OpenWait, Waits
from threadbus.v1 import admin_service_pb2 as pb


class AdminService:
    """The servicer of threadbus.v1.AdminService. Methods raise BusError as the proto says."""

    def __init__(self, waits: Waits) -> None:
        self._waits = waits

    async def ListWaits(self, request: pb.ListWaitsRequest, caller: Caller) -> pb.ListWaitsResponse:
        require_scope(caller, "admin")
        if request.agent:
            validation.agent_name("agent", request.agent)
        if request.thread:
            validation.thread_name("thread", request.thread)
        size = validation.page_size("page_size", request.page_size)
        after = request.page_token or "0"
        if not (after.isascii() and after.isdigit() and len(after) < 20):
            raise ValidationFailed(("page_token", "not a page token of this server"))
        found = self._waits.find(request.agent, request.thread, int(after))[: size + 1]
        listed = take_page((_to_proto(wait) for _, wait in found), size)
        response = pb.ListWaitsResponse(waits=listed)
        if len(found) > len(listed):
            response.next_page_token = str(found[len(listed) - 1][0])
        return response


def _to_proto(wait: OpenWait) -> pb.Wait:
    """Returns a wait as ListWaits lists it, without the threads that were deleted."""
    name = wait.agent or "anonymous"
    listed_wait = pb.Wait(agent=name, threads=wait.cursors(), peer=wait.peer)
    listed_wait.start_time.FromMicroseconds(wait.start_time)
    return listed_wait


SERVICE = pb.DESCRIPTOR.services_by_name["AdminService"]
