"""The contract as the cases refer to it: methods by name, messages as plain JSON values."""

from typing import Any

import google.rpc.error_details_pb2  # noqa: F401 - so that the details of errors can be parsed
from google.protobuf import json_format
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

from tests.rpcs import RPCS, Rpc
from threadbus.v1.bus_service_pb2 import PostMessageRequest

#: The methods of all services, by name.
METHODS = {str(rpc): rpc for rpc in RPCS}
#: The unary methods that every client wraps.
UNARY = [str(rpc) for rpc in RPCS if not rpc.streams and "AdminService" not in rpc.path]


def repeatable(rpc: Rpc) -> bool:
    """Return whether a client repeats a call whose outcome is unknown; a post has a request_id."""
    return rpc.idempotent or rpc.request_type is PostMessageRequest


def request_json(kind: type[Message], fields: dict[str, Any]) -> dict[str, Any]:
    """Return a request as drivers expect it, from fields named as in the protos."""
    return json_format.MessageToDict(json_format.ParseDict(fields, kind()))


def plain(kind: type[Message], sent: dict[str, Any]) -> dict[str, Any]:
    """Convert a driver's message to the form of the cases: names of the protos, all fields.

    Raises AssertionError if it cannot be parsed.
    """
    try:
        return shown(json_format.ParseDict(sent, kind()))
    except json_format.ParseError as error:
        raise AssertionError(f"not a {kind.DESCRIPTOR.name} in JSON: {error}") from error


def shown(message: Message) -> dict[str, Any]:
    """Return a message in the form of the cases."""
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def plain_detail(sent: dict[str, Any]) -> dict[str, Any]:
    """Convert a detail of an error to the form of the cases: `@type` is the short name."""
    detail = plain(AnyMessage, sent)
    return detail | {"@type": detail["@type"].rpartition("/")[2]}
