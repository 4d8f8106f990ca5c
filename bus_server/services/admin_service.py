"""AdminService: tokens, open waits and the status of the server, for operators."""

import heapq
import re
from collections.abc import Iterator

from bus_server.auth import OPERATOR_NAME, Caller, new_token, token_hash
from bus_server.errors import ValidationFailed
from bus_server.presence.remote_waits import RemoteWaits
from bus_server.server_status import ServerStatus
from bus_server.services import validation
from bus_server.services.pages import take_page
from bus_server.store import FIRST_PAGE, TokenPageKey
from bus_server.tokens import Tokens
from bus_server.waits import OpenWait, Waits
from threadbus.limits import MAX_LIFETIME
from threadbus.v1 import admin_service_pb2 as pb

#: Seconds that a status is about by default.
DEFAULT_WINDOW = 60
#: A wait's place in the list: its start time in microseconds, its server and its number.
_Key = tuple[int, str, int]
_TOKEN_PAGE = re.compile(r"([0-9]{1,18})-([0-9a-f]{16})", re.ASCII)
_PAGE_TOKEN = re.compile(r"([0-9]{1,20})-([0-9a-f]{16})-([0-9]{1,20})", re.ASCII)


class AdminService:
    """The servicer of threadbus.v1.AdminService. Methods raise BusError as the proto says."""

    def __init__(
        self, tokens: Tokens, server: str, waits: Waits, remote: RemoteWaits, status: ServerStatus
    ) -> None:
        """`server`: this server's name on the store."""
        self._status = status
        self._tokens = tokens
        self._server = server
        self._waits = waits
        self._remote = remote

    async def CreateToken(
        self, request: pb.CreateTokenRequest, caller: Caller
    ) -> pb.CreateTokenResponse:
        if request.agent:
            validation.own_agent_name("agent", request.agent)
        scopes = validation.scopes("scopes", request.scopes) or ("post", "read")
        prefixes = validation.thread_prefixes("thread_prefixes", request.thread_prefixes)
        if prefixes and "admin" in scopes:
            reason = "not with the scope `admin`, which permits everything"
            raise ValidationFailed(("thread_prefixes", reason))
        lifetime = None
        if request.HasField("lifetime"):
            lifetime = validation.duration("lifetime", request.lifetime)
            if not 0 < lifetime <= MAX_LIFETIME:
                raise ValidationFailed(("lifetime", "more than 0, and up to 10 years"))
        secret = new_token()
        hashed = token_hash(secret)
        token = await self._tokens.create(hashed, request.agent, scopes, prefixes, lifetime)
        return pb.CreateTokenResponse(token=token, secret=secret)

    async def ListTokens(
        self, request: pb.ListTokensRequest, caller: Caller
    ) -> pb.ListTokensResponse:
        agent = validation.agent_name("agent", request.agent) if request.agent else None
        if agent == OPERATOR_NAME:
            agent = ""  # as in Token.agent
        size = validation.page_size("page_size", request.page_size)
        before = _token_key(request.page_token) if request.page_token else FIRST_PAGE
        found = await self._tokens.page(agent, size + 1, before)
        response = pb.ListTokensResponse(tokens=[token for token, _ in found[:size]])
        if len(found) > size:
            response.next_page_token = "-".join(map(str, found[size - 1][1]))
        return response

    async def RevokeToken(
        self, request: pb.RevokeTokenRequest, caller: Caller
    ) -> pb.RevokeTokenResponse:
        token_id = validation.token_id("token_id", request.token_id)
        await self._tokens.revoke(token_id, caller.token)
        return pb.RevokeTokenResponse()

    async def ListWaits(self, request: pb.ListWaitsRequest, caller: Caller) -> pb.ListWaitsResponse:
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

    async def GetStatus(self, request: pb.GetStatusRequest, caller: Caller) -> pb.GetStatusResponse:
        window = DEFAULT_WINDOW
        if request.HasField("window"):
            window = validation.window("window", request.window)
        return await self._status.read(window)

    def _find(self, agent: str, thread: str) -> Iterator[tuple[_Key, OpenWait | pb.Wait]]:
        for number, wait in self._waits.find(agent, thread, 0):
            yield (wait.start_time, self._server, number), wait
        for server, number, remote in self._remote.find(agent, thread):
            yield (remote.start_time.ToMicroseconds(), server, number), remote


def _to_proto(wait: OpenWait | pb.Wait) -> pb.Wait:
    return wait if isinstance(wait, pb.Wait) else wait.to_proto()


def _token_key(page_token: str) -> TokenPageKey:
    """Returns the key in a page token of ListTokens. Raises ValidationFailed."""
    match = _TOKEN_PAGE.fullmatch(page_token)
    if match is None:
        raise ValidationFailed(("page_token", "not a page token of this server"))
    return TokenPageKey(int(match[1]), match[2])


def _parse(page_token: str) -> _Key:
    """Returns the key in a page token. Raises ValidationFailed."""
    match = _PAGE_TOKEN.fullmatch(page_token)
    if match is None:
        raise ValidationFailed(("page_token", "not a page token of this server"))
    return int(match[1]), match[2], int(match[3])


SERVICE = pb.DESCRIPTOR.services_by_name["AdminService"]
