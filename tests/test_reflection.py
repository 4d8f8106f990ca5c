"""Reflection finds everything that is declared, in both versions of its protocol."""

import pkgutil
from collections.abc import AsyncIterator, Iterable, Iterator
from importlib import import_module
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.rpc import error_details_pb2, status_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from grpc_reflection.v1alpha.reflection_pb2 import (
    ExtensionRequest,
    ServerReflectionRequest,
    ServerReflectionResponse,
)

import threadbus.v1
from bus_server.services.descriptors import Descriptors
from bus_server.services.reflection import Reflection
from tests.callers import operator
from tests.refusals import refused
from tests.serving import ServerProcess

NOT_FOUND, INVALID_ARGUMENT = 5, 3


@pytest.fixture(params=["v1", "v1alpha"])
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def ask(
    channel: grpc.aio.Channel, version: str, requests: Iterable[ServerReflectionRequest]
) -> AsyncIterator[ServerReflectionResponse]:
    """Yields the responses to requests sent one after the other on one stream."""
    # What the messages look like on the wire is the same in both versions.
    stream: Any = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=ServerReflectionRequest.SerializeToString,
        response_deserializer=ServerReflectionResponse.FromString,
    )
    call = stream(timeout=20)
    for request in requests:
        await call.write(request)
        response = await call.read()
        assert response is not grpc.aio.EOF, await call.details()
        assert response.original_request == request
        yield response
    await call.done_writing()
    assert await call.code() is grpc.StatusCode.OK


async def files(
    channel: grpc.aio.Channel, version: str, requests: Iterable[ServerReflectionRequest]
) -> list[list[FileDescriptorProto]]:
    """Returns the files in the response to each of these requests."""
    return [
        [
            FileDescriptorProto.FromString(data)
            for data in response.file_descriptor_response.file_descriptor_proto
        ]
        async for response in ask(channel, version, requests)
    ]


def generated() -> list[FileDescriptor]:
    """The files of the contract, from the generated modules."""
    modules = [info.name for info in pkgutil.iter_modules(threadbus.v1.__path__)]
    return [
        import_module(f"threadbus.v1.{name}").DESCRIPTOR
        for name in modules
        if name.endswith("_pb2")
    ]


def symbols(file: FileDescriptor) -> Iterator[str]:
    for service in file.services_by_name.values():
        yield service.full_name
        yield from (method.full_name for method in service.methods)
    for enum in file.enum_types_by_name.values():
        yield from symbols_of_enum(enum, file.package)
    for message in file.message_types_by_name.values():
        yield from symbols_of_message(message)


def symbols_of_message(message: Descriptor) -> Iterator[str]:
    yield message.full_name
    yield from (field.full_name for field in message.fields)
    yield from (oneof.full_name for oneof in message.oneofs)
    for enum in message.enum_types:
        yield from symbols_of_enum(enum, message.full_name)
    for nested in message.nested_types:
        yield from symbols_of_message(nested)


def symbols_of_enum(enum: EnumDescriptor, scope: str) -> Iterator[str]:
    yield enum.full_name
    yield from (f"{scope}.{value.name}" for value in enum.values)


async def test_every_symbol_is_found_in_its_file(channel: grpc.aio.Channel, version: str) -> None:
    known = [*generated(), error_details_pb2.DESCRIPTOR, status_pb2.DESCRIPTOR]
    expected = {symbol: file.name for file in known for symbol in symbols(file)}
    assert {
        *("threadbus.v1.BusService", "threadbus.v1.BusService.PostMessage"),
        *("threadbus.v1.Message", "threadbus.v1.Message.seq"),
        *("threadbus.v1.WaitMessagesResponse.frame", "threadbus.v1.ErrorReason"),
        *("threadbus.v1.ERROR_REASON_STORE_BUSY", "google.rpc.ErrorInfo.reason"),
    } <= set(expected)
    requests = (ServerReflectionRequest(file_containing_symbol=symbol) for symbol in expected)
    found = await files(channel, version, requests)
    assert dict(zip(expected, (sent[0].name for sent in found), strict=True)) == expected


async def test_files_are_found_by_name_with_their_imports(
    channel: grpc.aio.Channel, version: str
) -> None:
    names = [file.name for file in generated()]
    for name in names:
        request = ServerReflectionRequest(file_by_filename=name)
        (sent,) = await files(channel, version, [request])
        assert sent[0].name == name
        there = {file.name for file in sent}
        assert {imported for file in sent for imported in file.dependency} <= there


async def test_a_stream_is_sent_each_import_once(channel: grpc.aio.Channel, version: str) -> None:
    request = ServerReflectionRequest(file_containing_symbol="threadbus.v1.BusService")
    other = ServerReflectionRequest(file_containing_symbol="threadbus.v1.ThreadService")
    first, again, more = await files(channel, version, [request, request, other])
    assert len(first) > 3
    assert [file.name for file in again] == [first[0].name]
    names = [file.name for file in (*first, *more)]
    assert "threadbus/v1/thread_service.proto" in names
    assert len(names) == len(set(names))


async def test_fields_have_json_names_and_all_have_comments(
    channel: grpc.aio.Channel, version: str
) -> None:
    request = ServerReflectionRequest(file_containing_symbol="threadbus.v1.BusService")
    ((file, *_),) = await files(channel, version, [request])
    (post,) = [message for message in file.message_type if message.name == "PostMessageRequest"]
    json_names = {field.name: field.json_name for field in post.field}
    assert json_names["request_id"] == "requestId"
    comments = [location.leading_comments for location in file.source_code_info.location]
    assert any("Posts one message" in comment for comment in comments), comments[:20]


@pytest.mark.parametrize(
    "request_",
    [
        ServerReflectionRequest(file_containing_symbol="threadbus.v1.BusService.Nothing"),
        ServerReflectionRequest(file_containing_symbol="threadbus.v1"),
        ServerReflectionRequest(file_containing_symbol=""),
        ServerReflectionRequest(file_by_filename="nothing.proto"),
        ServerReflectionRequest(all_extension_numbers_of_type="threadbus.v1.Nothing"),
        ServerReflectionRequest(
            file_containing_extension=ExtensionRequest(
                containing_type="threadbus.v1.Message", extension_number=100
            )
        ),
    ],
    ids=str,
)
async def test_an_unknown_symbol_is_not_found_and_the_stream_goes_on(
    channel: grpc.aio.Channel, version: str, request_: ServerReflectionRequest
) -> None:
    known = ServerReflectionRequest(file_by_filename="threadbus/v1/message.proto")
    missing, there = [each async for each in ask(channel, version, [request_, known])]
    assert missing.error_response.error_code == NOT_FOUND
    assert there.HasField("file_descriptor_response")


async def test_a_request_for_nothing_is_an_error(channel: grpc.aio.Channel, version: str) -> None:
    responses = ask(channel, version, [ServerReflectionRequest(host="here")])
    (response,) = [each async for each in responses]
    assert response.error_response.error_code == INVALID_ARGUMENT
    assert response.valid_host == "here"


async def test_a_message_without_extensions_has_no_extension_numbers(
    channel: grpc.aio.Channel, version: str
) -> None:
    name = "threadbus.v1.Message"
    request = ServerReflectionRequest(all_extension_numbers_of_type=name)
    (response,) = [each async for each in ask(channel, version, [request])]
    assert response.all_extension_numbers_response.base_type_name == name
    assert not response.all_extension_numbers_response.extension_number


def test_extensions_are_found_wherever_they_are_declared() -> None:
    shipped = Descriptors.shipped()
    protocol = shipped.file("grpc/reflection/v1/reflection.proto")
    assert protocol is not None
    extended = FileDescriptorProto(name="extended.proto", package="x", syntax="proto2")
    extended.message_type.add(name="M").extension_range.add(start=100, end=200)
    extending = FileDescriptorProto(
        name="extending.proto", package="y", syntax="proto2", dependency=["extended.proto"]
    )
    common = {"extendee": ".x.M", "type": 5, "label": 1}
    extending.extension.add(name="outer", number=120, **common)
    nested = extending.message_type.add(name="N").nested_type.add(name="O")
    nested.extension.add(name="inner", number=110, **common)
    files = [FileDescriptorProto.FromString(protocol), extended, extending]
    reflection = Reflection(Descriptors(FileDescriptorSet(file=files)), [])

    def respond(**fields: Any) -> Any:
        return reflection.respond(reflection.request_class(**fields), set())

    numbers = respond(all_extension_numbers_of_type="x.M").all_extension_numbers_response
    assert list(numbers.extension_number) == [110, 120]
    by_number = [
        respond(file_containing_extension={"containing_type": "x.M", "extension_number": number})
        for number in numbers.extension_number
    ]
    by_name = [respond(file_containing_symbol=symbol) for symbol in ("y.outer", "y.N.O.inner")]
    for response in (*by_number, *by_name):
        sent = response.file_descriptor_response.file_descriptor_proto
        assert [FileDescriptorProto.FromString(data).name for data in sent] == [
            "extending.proto",
            "extended.proto",
        ]


async def test_every_listed_service_is_served_with_all_its_methods(
    server: ServerProcess, channel: grpc.aio.Channel, version: str
) -> None:
    metadata = operator(server).metadata
    listing = ServerReflectionRequest(list_services="")
    (response,) = [each async for each in ask(channel, version, [listing])]
    names = [service.name for service in response.list_services_response.service]
    assert {
        *(f"threadbus.v1.{name}Service" for name in ("Bus", "Thread", "Agent", "Admin")),
        *("grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"),
        "grpc.reflection.v1alpha.ServerReflection",
    } == set(names)
    found = await files(
        channel, version, (ServerReflectionRequest(file_containing_symbol=name) for name in names)
    )
    for name, (file, *_) in zip(names, found, strict=True):
        (service,) = [each for each in file.service if f"{file.package}.{each.name}" == name]
        assert service.method
        for method in service.method:
            call: Any = channel.stream_stream(f"/{name}/{method.name}")
            refusal = await refused(call(iter([b"\xff"]), timeout=10, metadata=metadata))
            assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT, method.name


def test_a_client_without_stubs_posts_by_reflection_alone(server: ServerProcess, name: str) -> None:
    with grpc.insecure_channel(server.address) as channel:
        pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(channel))

        def call(path: str, **fields: Any) -> Any:
            service, method = path.split("/")
            described = pool.FindServiceByName(service).methods_by_name[method]
            request = message_factory.GetMessageClass(described.input_type)(**fields)
            response = message_factory.GetMessageClass(described.output_type)
            return channel.unary_unary(
                f"/{path}",
                request_serializer=type(request).SerializeToString,
                response_deserializer=response.FromString,
            )(request, timeout=10)

        call("threadbus.v1.ThreadService/CreateThread", thread=name)
        post = call("threadbus.v1.BusService/PostMessage", thread=name, content="hello")
        assert post.seq == 1
