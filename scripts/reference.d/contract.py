"""Builds the contract's HTML page from the descriptor set, which has the comments of the protos."""

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

import markdown2
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodOptions,
)

DESCRIPTORS = "protos/threadbus/v1/descriptor_set.binpb"
PACKAGE = "threadbus.v1"
HEAD = """<!doctype html><meta charset="utf-8"><title>threadbus.v1</title>
<style>body {max-width: 60em; margin: 2em auto; font: 16px sans-serif; line-height: 1.4}
dt {margin-top: .6em; font-family: monospace} dd p, dd ul {margin: .2em 0}</style>
"""
# Field numbers in descriptor.proto. SourceCodeInfo.Location.path, which tells where a comment is,
# consists of field numbers and indexes.
FILE_MESSAGE, FILE_ENUM, FILE_SERVICE, FILE_SYNTAX = 4, 5, 6, 12
MESSAGE_FIELD, MESSAGE_NESTED, MESSAGE_ENUM, ENUM_VALUE, SERVICE_METHOD = 2, 3, 4, 2, 2

Path_ = tuple[int, ...]


def page(descriptor_set: Path) -> str:
    files = FileDescriptorSet.FromString(descriptor_set.read_bytes()).file
    ours = [file for file in files if file.package == PACKAGE]
    # Files with services first, bus_service.proto before the others.
    ours.sort(
        key=lambda file: (not file.service, "bus" not in file.name[len(PACKAGE) :], file.name)
    )
    links = " · ".join(f'<a href="#{f.name}">{f.name.rpartition("/")[2]}</a>' for f in ours)
    return f"{HEAD}<h1>{PACKAGE}</h1><p>{links}</p>" + "".join(
        part for file in ours for part in _File(file).parts()
    )


class _File:
    def __init__(self, file: FileDescriptorProto) -> None:
        self._file = file
        self._comments: dict[Path_, str] = {}
        for place in file.source_code_info.location:
            comment = "\n\n".join((*place.leading_detached_comments, place.leading_comments))
            self._comments[tuple(place.path)] = "\n".join(
                line.removeprefix(" ") for line in comment.splitlines()
            )

    def parts(self) -> Iterator[str]:
        file = self._file
        yield f'<h2 id="{file.name}">{file.name}</h2>{self._comment((FILE_SYNTAX,))}'
        for at, service in enumerate(file.service):
            path = (FILE_SERVICE, at)
            yield self._heading(service.name, path)
            yield self._list(service.method, _method, (*path, SERVICE_METHOD))
        for at, message in enumerate(file.message_type):
            yield from self._message(message, message.name, (FILE_MESSAGE, at))
        yield from self._enums(file.enum_type, "", (FILE_ENUM,))

    def _message(self, message: DescriptorProto, name: str, path: Path_) -> Iterator[str]:
        if message.options.map_entry:
            return
        yield self._heading(name, path)
        yield self._list(message.field, _field, (*path, MESSAGE_FIELD))
        for at, nested in enumerate(message.nested_type):
            yield from self._message(nested, f"{name}.{nested.name}", (*path, MESSAGE_NESTED, at))
        yield from self._enums(message.enum_type, f"{name}.", (*path, MESSAGE_ENUM))

    def _enums(self, enums: Sequence[Any], prefix: str, path: Path_) -> Iterator[str]:
        for at, enum in enumerate(enums):
            yield self._heading(prefix + enum.name, (*path, at))
            yield self._list(
                enum.value, lambda value: f"{value.name} = {value.number}", (*path, at, ENUM_VALUE)
            )

    def _heading(self, name: str, path: Path_) -> str:
        return f'<h3 id="{PACKAGE}.{name}">{name}</h3>{self._comment(path)}'

    def _list(self, entries: Sequence[Any], term: Any, path: Path_) -> str:
        described = [
            f"<dt>{term(entry)}</dt><dd>{self._comment((*path, at))}</dd>"
            for at, entry in enumerate(entries)
        ]
        return f"<dl>{''.join(described)}</dl>"

    def _comment(self, path: Path_) -> str:
        comment = escape(self._comments.get(path, ""), quote=False)
        return markdown2.markdown(comment, extras=["code-friendly", "cuddled-lists"])


def _method(method: Any) -> str:
    level = MethodOptions.IdempotencyLevel.Name(method.options.idempotency_level)
    request = "stream " * method.client_streaming + _type(method.input_type)
    response = "stream " * method.server_streaming + _type(method.output_type)
    idempotent = "" if level == "IDEMPOTENCY_UNKNOWN" else f" [{level}]"
    return f"<b>{method.name}</b>({request}) returns ({response}){idempotent}"


def _field(field: FieldDescriptorProto) -> str:
    scalar = FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    label = "repeated " * (field.label == FieldDescriptorProto.LABEL_REPEATED)
    optional = "optional " * field.proto3_optional
    kind = _type(field.type_name) if field.type_name else scalar
    return f"{label}{optional}{kind} <b>{field.name}</b> = {field.number}"


def _type(name: str) -> str:
    name = name.removeprefix(".")
    if not name.startswith(f"{PACKAGE}."):
        return name
    return f'<a href="#{name}">{name.removeprefix(f"{PACKAGE}.")}</a>'
