"""Which calls are in the audit log, besides those that are refused."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from google.protobuf.message import Message

from bus_server.auth import Caller
from threadbus.v1 import admin_service_pb2 as admin
from threadbus.v1 import agent_service_pb2 as agents
from threadbus.v1 import bus_service_pb2 as bus
from threadbus.v1 import thread_service_pb2 as threads
from threadbus.v1.agent_pb2 import AgentKind
from threadbus.v1.thread_pb2 import ThreadState

#: Returns an event and its fields, given the response to a call; None: there is none.
Event: TypeAlias = Callable[[Any], tuple[str, Mapping[str, object]] | None]


def _register(_: agents.RegisterAgentRequest, caller: Caller) -> Event:
    def event(
        response: agents.RegisterAgentResponse,
    ) -> tuple[str, Mapping[str, object]] | None:
        if not response.created and not caller.operator:
            return None  # the agent has its token already
        kind = AgentKind.Name(response.agent.kind).removeprefix("AGENT_KIND_").lower()
        about = response.agent.name
        return "agent_registered", {"about": about, "kind": kind, "new": response.created}

    return event


def _unregister(request: agents.UnregisterAgentRequest, caller: Caller) -> Event:
    return _always("agent_unregistered", about=request.agent or caller.name)


def _update_agent(request: agents.UpdateAgentRequest, caller: Caller) -> Event | None:
    if request.agent in ("", caller.name):
        return None
    return _always("agent_updated", about=request.agent, fields=list(request.update_mask.paths))


def _end_session(request: agents.EndSessionRequest, caller: Caller) -> Event | None:
    if request.agent in ("", caller.name):
        return None
    return _always("session_ended", about=request.agent)


def _rotate(request: agents.RotateTokenRequest, caller: Caller) -> Event:
    if request.agent in ("", caller.name):
        return _always("token_rotated", about=caller.name)
    return _always("tokens_reset", about=request.agent)


def _create_token(_: admin.CreateTokenRequest, __: Caller) -> Event:
    def event(response: admin.CreateTokenResponse) -> tuple[str, Mapping[str, object]]:
        token = response.token
        fields: dict[str, object] = {
            "about": token.agent or "operator",
            "token_id": token.token_id,
            "scopes": list(token.scopes),
            "thread_prefixes": list(token.thread_prefixes),
        }
        if token.HasField("expire_time"):
            fields["expire_time"] = token.expire_time.ToJsonString()
        return "token_created", fields

    return event


def _revoke_token(request: admin.RevokeTokenRequest, _: Caller) -> Event:
    return _always("token_revoked", token_id=request.token_id)


def _delete_thread(request: threads.DeleteThreadRequest, _: Caller) -> Event:
    return _always("thread_deleted", thread=request.thread)


def _set_state(_: threads.SetThreadStateRequest, caller: Caller) -> Event | None:
    if not caller.operator:
        return None  # the thread has an entry

    def event(response: threads.SetThreadStateResponse) -> tuple[str, Mapping[str, object]]:
        state = ThreadState.Name(response.thread.state).removeprefix("THREAD_STATE_").lower()
        return "thread_state_set", {"thread": response.thread.name, "state": state}

    return event


def _update_thread(request: threads.UpdateThreadRequest, caller: Caller) -> Event | None:
    if not caller.operator:
        return None  # the thread has an entry
    fields = list(request.update_mask.paths)
    return _always("thread_updated", thread=request.thread, fields=fields)


def _post(request: bus.PostMessageRequest, _: Caller) -> Event | None:
    if not request.on_behalf_of:
        return None
    about, thread = request.on_behalf_of, request.thread
    return lambda response: (
        "posted_on_behalf",
        {"about": about, "thread": thread, "seq": response.seq},
    )


def _always(event: str, **fields: object) -> Event:
    return lambda _: (event, fields)


_BY_REQUEST: Mapping[type[Message], Callable[[Any, Caller], Event | None]] = {
    agents.RegisterAgentRequest: _register,
    agents.UnregisterAgentRequest: _unregister,
    agents.UpdateAgentRequest: _update_agent,
    agents.EndSessionRequest: _end_session,
    agents.RotateTokenRequest: _rotate,
    admin.CreateTokenRequest: _create_token,
    admin.RevokeTokenRequest: _revoke_token,
    threads.DeleteThreadRequest: _delete_thread,
    threads.SetThreadStateRequest: _set_state,
    threads.UpdateThreadRequest: _update_thread,
    bus.PostMessageRequest: _post,
}


def audited(request_type: type[Message]) -> Callable[[Any, Caller], Event | None] | None:
    """Returns a function that returns the event of a call, given its request and caller.

    Its result is None if the call causes no event, whatever its response is. The result does not
    keep the request in memory. The request need not be valid. None: no call causes an event.
    """
    return _BY_REQUEST.get(request_type)
