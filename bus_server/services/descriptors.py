"""The shipped descriptor set: the .proto files of the contract and of gRPC's own services."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from importlib.resources import files
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)
from google.protobuf.descriptor_pool import DescriptorPool


class Descriptors:
    """The files of a descriptor set, indexed by the symbols that they declare. Immutable."""

    def __init__(self, described: FileDescriptorSet) -> None:
        """`described`: each file follows its imports, as protoc writes them."""
        # Not the default pool, where files would collide with the program's own copies of them.
        self._pool = DescriptorPool()
        self._files: dict[str, bytes] = {}
        self._imports: dict[str, Sequence[str]] = {}
        self._symbols: dict[str, str] = {}
        #: Names of files, by the extended message's name and the extension's number.
        self._extensions: defaultdict[str, dict[int, str]] = defaultdict(dict)
        for file in described.file:
            data = self._files[file.name] = file.SerializeToString()
            self._pool.AddSerializedFile(data)
            self._imports[file.name] = tuple(file.dependency)
            self._symbols |= dict.fromkeys(_symbols(file), file.name)
            for extension in _extensions(file.extension, file.message_type):
                extended = extension.extendee.removeprefix(".")
                self._extensions[extended][extension.number] = file.name

    @classmethod
    def shipped(cls) -> Descriptors:
        """Returns the descriptor set that comes with the package. Reads a file."""
        data = (files("threadbus.v1") / "descriptor_set.binpb").read_bytes()
        return cls(FileDescriptorSet.FromString(data))

    def message_class(self, name: str) -> Any:
        """Returns the class of a message type. Raises KeyError if there is no such type."""
        return message_factory.GetMessageClass(self._pool.FindMessageTypeByName(name))

    def file(self, name: str) -> bytes | None:
        """Returns a file's serialised FileDescriptorProto, None if there is no such file."""
        return self._files.get(name)

    def declaring(self, symbol: str) -> str | None:
        """Returns the name of the file that declares a symbol, None if none does.

        `symbol`: the full name of a service, method, message, field, oneof, enum, enum value or
        extension.
        """
        return self._symbols.get(symbol)

    def extending(self, message: str, number: int) -> str | None:
        """Returns the name of the file that declares an extension, None if none does.

        `message`: the full name of the extended message type. `number`: the extension's.
        """
        return self._extensions.get(message, {}).get(number)

    def extension_numbers(self, message: str) -> Sequence[int] | None:
        """Returns the numbers of a message type's extensions, None if there is no such type."""
        try:
            self._pool.FindMessageTypeByName(message)
        except KeyError:
            return None
        return sorted(self._extensions.get(message, ()))

    def with_imports(self, name: str) -> Sequence[str]:
        """Returns a file's name, followed by those of its direct and indirect imports.

        Raises KeyError if there is no such file.
        """
        found = dict.fromkeys([name])
        queue = [name]
        while queue:
            new = [each for each in self._imports[queue.pop()] if each not in found]
            found |= dict.fromkeys(new)
            queue += new
        return list(found)


def _symbols(file: FileDescriptorProto) -> Iterator[str]:
    for service in file.service:
        name = _join(file.package, service.name)
        yield name
        yield from (f"{name}.{method.name}" for method in service.method)
    yield from _in_scope(file.package, file.message_type, file.enum_type, file.extension)


def _in_scope(
    scope: str,
    messages: Iterable[DescriptorProto],
    enums: Iterable[EnumDescriptorProto],
    extensions: Iterable[FieldDescriptorProto],
) -> Iterator[str]:
    for enum in enums:
        yield _join(scope, enum.name)
        # Enum values are in the scope that encloses their enum.
        yield from (_join(scope, value.name) for value in enum.value)
    yield from (_join(scope, extension.name) for extension in extensions)
    for message in messages:
        name = _join(scope, message.name)
        yield name
        yield from (f"{name}.{field.name}" for field in message.field)
        yield from (f"{name}.{oneof.name}" for oneof in message.oneof_decl)
        yield from _in_scope(name, message.nested_type, message.enum_type, message.extension)


def _extensions(
    extensions: Iterable[FieldDescriptorProto], messages: Iterable[DescriptorProto]
) -> Iterator[FieldDescriptorProto]:
    yield from extensions
    for message in messages:
        yield from _extensions(message.extension, message.nested_type)


def _join(scope: str, name: str) -> str:
    return f"{scope}.{name}" if scope else name
