"""The contract as the cases see it: methods by name, messages as plain JSON values."""

from typing import Any, NamedTuple

import google.rpc.error_details_pb2  # noqa: F401 - so that the details of errors can be read
from google.protobuf import json_format, message_factory
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

from threadbus.v1 import (
    admin_service_pb2,
    agent_service_pb2,
    bus_service_pb2,
    thread_service_pb2,
)


class Method(NamedTuple):
    """A method of one of the services."""

    path: str
    request: type[Message]
    response: type[Message]


METHODS = {
    method.name: Method(
        f"/{service.full_name}/{method.name}",
        message_factory.GetMessageClass(method.input_type),
        message_factory.GetMessageClass(method.output_type),
    )
    for module in (bus_service_pb2, thread_service_pb2, agent_service_pb2, admin_service_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}


def request_json(kind: type[Message], fields: dict[str, Any]) -> dict[str, Any]:
    """A request as drivers take it, of fields named as in the protos."""
    return json_format.MessageToDict(json_format.ParseDict(fields, kind()))


def plain(kind: type[Message], sent: dict[str, Any]) -> dict[str, Any]:
    """A message as the cases write it, of what a driver sent: names of the protos, all fields.

    AssertionError if it is no such message.
    """
    try:
        return shown(json_format.ParseDict(sent, kind()))
    except json_format.ParseError as error:
        raise AssertionError(f"not a {kind.DESCRIPTOR.name} in JSON: {error}") from error


def shown(message: Message) -> dict[str, Any]:
    """A message as the cases write it."""
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def plain_detail(sent: dict[str, Any]) -> dict[str, Any]:
    """A detail of an error as the cases write it: `@type` is the short name."""
    detail = plain(AnyMessage, sent)
    return detail | {"@type": detail["@type"].rpartition("/")[2]}
