"""Conversion of protobuf messages to JSON documents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from google.protobuf.message import Message

    import bus_client


def document(message: Message, *, whole: bool = False) -> dict[str, Any]:
    """Returns a protobuf message in protobuf's JSON mapping, as a dict.

    Unlike in that mapping, fields have their names in the .proto, and 64-bit integers are numbers:
    exact for seqs, which stay below 2^53. Unset fields are omitted; with `whole`, only those that
    track presence are. Invalid times and durations, such as one in the year 10,000, are always
    omitted, as JSON cannot express them.
    """
    from google.protobuf.json_format import Error  # imported only when needed: --help must be fast

    try:
        result = _as_dict(message, whole=whole)
    except (Error, ValueError):
        valid = type(message)()
        valid.CopyFrom(message)
        _clear_invalid_times(valid)
        result = _as_dict(valid, whole=whole)
    _use_numbers(message.DESCRIPTOR.fields, result)
    return result


def message_document(message: bus_client.Message, paths: Sequence[str] = ()) -> dict[str, Any]:
    """Returns a message of a thread as a dict, with `content_truncated` if its text was cut off.

    `paths`: where its attachments were saved.
    """
    result = document(message)
    for file, path in zip(result.get("attachments", ()), paths, strict=False):
        if path:
            file["path"] = path
    if is_cut(message):
        result["content_truncated"] = True
    return result


def message_documents(
    messages: Iterable[bus_client.Message],
    paths: Mapping[tuple[str, int], Sequence[str]] = MappingProxyType({}),
) -> list[dict[str, Any]]:
    """Returns messages as message_document() does. `paths`: as take_files() returns them."""
    return [
        message_document(message, paths.get((message.thread, message.seq), ()))
        for message in messages
    ]


def is_cut(message: bus_client.Message) -> bool:
    """Returns whether the server sent only the beginning of a message's text."""
    return message.content_size > len(message.content.encode())


def _as_dict(message: Message, *, whole: bool) -> dict[str, Any]:
    from google.protobuf.json_format import MessageToDict

    result: dict[str, Any] = MessageToDict(
        message,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=whole,
    )
    return result


def _clear_invalid_times(message: Message) -> None:
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        if field.message_type.file.package != "google.protobuf":
            for part in [value] if hasattr(value, "DESCRIPTOR") else value:
                _clear_invalid_times(part)
        elif not _is_valid(value):
            message.ClearField(field.name)


def _is_valid(value: Message) -> bool:
    from google.protobuf.json_format import MessageToDict

    try:
        MessageToDict(value)
    except ValueError:
        return False
    return True


def _use_numbers(fields: Iterable[Any], result: dict[str, Any]) -> None:
    for field in fields:
        value = result.get(field.name)
        if isinstance(value, str) and field.cpp_type in (
            field.CPPTYPE_INT64,
            field.CPPTYPE_UINT64,
        ):
            result[field.name] = int(value)
        elif field.message_type is not None and not field.message_type.GetOptions().map_entry:
            for part in value if isinstance(value, list) else [value]:
                if isinstance(part, dict):
                    _use_numbers(field.message_type.fields, part)
