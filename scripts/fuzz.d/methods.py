"""The methods to call: those of the contract, and gRPC's health and reflection."""

import pkgutil
from dataclasses import dataclass, replace
from importlib import import_module

from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

import threadbus.v1


@dataclass(frozen=True, slots=True)
class Method:
    """An RPC method and its message types."""

    path: str
    request_type: type[Message]
    response_type: type[Message]
    client_streaming: bool
    server_streaming: bool
    #: Whether it is ThreadBus's own, so that its errors have google.rpc details.
    own: bool

    @property
    def name(self) -> str:
        """Its name without the service."""
        return self.path.rpartition("/")[2]

    @property
    def creates(self) -> bool:
        """Whether it creates something with a new name."""
        return self.name.startswith(("Create", "Register"))

    @property
    def for_operators(self) -> bool:
        """Whether it is for operators."""
        return "AdminService" in self.path

    @property
    def destructive(self) -> bool:
        """Whether it is destructive: it removes a name, a token or a thread."""
        return self.name.startswith(("Unregister", "Rotate", "Delete", "Revoke"))


def all_methods() -> list[Method]:
    """Returns every method that a server serves, in a stable order."""
    modules = sorted(info.name for info in pkgutil.iter_modules(threadbus.v1.__path__))
    files = [
        import_module(f"threadbus.v1.{name}").DESCRIPTOR
        for name in modules
        if name.endswith("_pb2")
    ]
    found = [
        _method(method, own=True)
        for file in files
        for service in file.services_by_name.values()
        for method in service.methods
    ]
    for file in (health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR):
        for service in file.services_by_name.values():
            found += [_method(method, own=False) for method in service.methods]
    # Both versions of reflection look the same on the wire.
    return found + [
        replace(method, path=method.path.replace(".v1alpha.", ".v1."))
        for method in found
        if ".v1alpha." in method.path
    ]


def _method(method: MethodDescriptor, *, own: bool) -> Method:
    return Method(
        f"/{method.containing_service.full_name}/{method.name}",
        message_factory.GetMessageClass(method.input_type),
        message_factory.GetMessageClass(method.output_type),
        bool(method.client_streaming),
        bool(method.server_streaming),
        own,
    )
