"""Decides whether a call ended in a permitted way."""

from collections.abc import Iterator
from functools import cache

from calls import LARGEST, Call
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError, Message
from google.rpc.status_pb2 import Status
from grpc import StatusCode as Code
from sender import NEVER_SENT, Ending

from tests.refusals import CONTRACT

#: Bytes of metadata that gRPC always accepts. It refuses some beyond that, and all beyond 16 KiB.
_METADATA = 8 * 1024
#: Codes of calls that the caller cancelled, or whose deadline was too short.
_OWN = (Code.CANCELLED, Code.DEADLINE_EXCEEDED)
#: Codes that neither a call nor anything in its responses may have.
_BUGS = (Code.UNKNOWN.value[0], Code.INTERNAL.value[0])


def fault(call: Call, ending: Ending) -> str:
    """Returns what is wrong with the end of a call; "" if nothing is."""
    if ending.hung:
        return "did not end although its deadline has passed"
    for response in ending.responses:
        if wrong := _bad_response(call, response):
            return wrong
    if ending.code is Code.OK:
        no_request = call.wrong_cardinality and not call.requests
        return "OK, although it got no request" if no_request else ""
    if ending.code in _OWN and not call.must_end:
        # The caller's own code, although the server's details may arrive at the same time.
        return ""
    text = f"{ending.code.name} {ending.reason}: {ending.message[:300]}"
    if ending.reason:
        code, _ = CONTRACT.get(ending.reason, (None, None))
        if code is not ending.code:
            return f"{text} – errors.proto does not have this reason, or has another code for it"
        return text if ending.reason == "INTERNAL" else ""
    return "" if _allowed_bare(call, ending) else text


def _bad_response(call: Call, data: bytes) -> str:
    if len(data) > LARGEST:
        return f"a response of {len(data):,} bytes"
    try:
        response = call.method.response_type.FromString(data)
    except DecodeError as error:
        return f"a response that does not parse: {error}"
    if _may_hold_status(response.DESCRIPTOR):
        for status in _statuses(response):
            if status.code in _BUGS:
                return f"in a response: {status}"
    return ""


@cache
def _may_hold_status(descriptor: Descriptor) -> bool:
    """Returns whether a message, or one nested in it, may contain the status of one item."""
    seen, left = {descriptor.full_name}, [descriptor]
    while left:
        inner = [field.message_type for field in left.pop().fields]
        new = [found for found in inner if found is not None and found.full_name not in seen]
        seen.update(found.full_name for found in new)
        left += new
    return Status.DESCRIPTOR.full_name in seen


def _statuses(message: Message) -> Iterator[Status]:
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        for inner in value if field.is_repeated else [value]:
            if isinstance(inner, Status):
                yield inner
            elif _may_hold_status(inner.DESCRIPTOR):
                yield from _statuses(inner)


def _allowed_bare(call: Call, ending: Ending) -> bool:
    """Returns whether this error may lack details, because it is not from ThreadBus."""
    match ending.code:
        case Code.RESOURCE_EXHAUSTED:
            # gRPC's own limits. A response beyond the client's limit is the server's fault.
            sizes = [len(request) for request in call.requests]
            headers = sum(len(key) + len(value) + 32 for key, value in call.metadata)
            return (max(sizes, default=0) > LARGEST or headers > _METADATA) and (
                "CLIENT" not in ending.message
            )
        case Code.INTERNAL:
            # The client's own error if the server has ended a call whose requests are still being
            # sent: the server's status is lost. No server sends this text.
            larger = max(map(len, call.requests), default=0) > LARGEST
            return ending.message in NEVER_SENT and (larger or call.streamed)
        case Code.NOT_FOUND | Code.UNIMPLEMENTED:
            # Health checks of an unknown service, and methods that grpc's own servicers lack.
            return not call.method.own
    return False
