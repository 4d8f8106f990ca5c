"""Protobuf messages as JSON documents."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from google.protobuf.message import Message


def document(message: Message, *, whole: bool = False) -> dict[str, Any]:
    """Protobuf's JSON with the names of the .proto, and seqs as numbers: they stay below 2^53.

    Fields that are not set are left out, unless it is to be `whole`; and so are times and
    durations that are none, such as one in the year 10,000: JSON has no way to say them.
    """
    from google.protobuf.json_format import Error  # nothing that --help should pay for

    try:
        result = _as_dict(message, whole=whole)
    except (Error, ValueError):
        sound = type(message)()
        sound.CopyFrom(message)
        _leave_out_impossible(sound)
        result = _as_dict(sound, whole=whole)
    _use_numbers(message.DESCRIPTOR.fields, result)
    return result


def _as_dict(message: Message, *, whole: bool) -> dict[str, Any]:
    from google.protobuf.json_format import MessageToDict

    result: dict[str, Any] = MessageToDict(
        message,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=whole,
    )
    return result


def _leave_out_impossible(message: Message) -> None:
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        if field.message_type.file.package != "google.protobuf":
            for part in [value] if hasattr(value, "DESCRIPTOR") else value:
                _leave_out_impossible(part)
        elif not _possible(value):
            message.ClearField(field.name)


def _possible(value: Message) -> bool:
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
