"""Which calls may be repeated, according to the idempotency levels in the contract."""

from typing import Final, Protocol

from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import MethodOptions

from threadbus.v1 import (
    admin_service_pb2,
    agent_service_pb2,
    bus_service_pb2,
    thread_service_pb2,
)


class UnaryRequest(Protocol):
    """A request of one of the contract's unary methods."""

    @property
    def DESCRIPTOR(self) -> Descriptor: ...


_IDEMPOTENT: Final = frozenset(
    method.input_type.full_name
    for module in (admin_service_pb2, agent_service_pb2, bus_service_pb2, thread_service_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
    if method.GetOptions().idempotency_level != MethodOptions.IDEMPOTENCY_UNKNOWN
)


def idempotent(request: UnaryRequest) -> bool:
    """Returns whether the method of this request is idempotent.

    Each request type belongs to one method. False for posts: they are repeatable because of their
    request_id, not their method.
    """
    return request.DESCRIPTOR.full_name in _IDEMPOTENT
