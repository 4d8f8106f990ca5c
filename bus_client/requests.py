"""Requests from a program's arguments. Values that do not fit are refused."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from numbers import Real
from typing import Any, NoReturn, TypeAlias, TypeVar

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from bus_client.errors import InvalidArgument

#: The time, in seconds, that means no limit: 31 years. Longer times are lowered to it.
NO_LIMIT = 1e9

_RANGES = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_ENUM: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
}

# (FieldDescriptor, value, path) → the value to set. Raises InvalidArgument.
_Convert: TypeAlias = Callable[[Any, Any, str], Any]
M = TypeVar("M", bound=Message)


def build(kind: type[M], /, **fields: Any) -> M:
    """Returns a protobuf message with these fields.

    None leaves a field unset if it is optional, a message or a map. The value of a message field
    may be a mapping of its fields.

    Raises:
        InvalidArgument: A field does not exist, or a value does not fit its field; the error names
            the first one by its path. This is stricter than protobuf, which accepts bytes as a
            string, None as "" and a string as a list.
    """
    descriptor: Any = kind.DESCRIPTOR
    return kind(**_converted(descriptor, fields, ""))


def seconds(field: str, value: float) -> float:
    """Returns a time in seconds; NO_LIMIT if it is longer, such as infinity.

    Raises:
        InvalidArgument: The value is negative or not a number.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        refuse(field, f"must be a number of seconds, not {_type(value)}")
    if value < 0:
        refuse(field, "must not be negative")
    if value > NO_LIMIT:
        return NO_LIMIT  # also an int too large for a float
    if math.isnan(value):
        refuse(field, "must be a number of seconds, not nan")
    return float(value)


def integer(field: str, value: int, least: int = 0, most: int = 2**63 - 1) -> int:
    """Returns an integer argument as an int.

    Raises:
        InvalidArgument: The value is not an integer from `least` to `most`, or is a bool.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        refuse(field, f"must be an integer, not {_type(value)}")
    if not least <= number <= most:
        refuse(field, f"must be between {least} and {most}")
    return number


def choice(field: str, value: str, choices: Iterable[str]) -> None:
    """Raises InvalidArgument unless the value is one of the choices."""
    if value not in choices:
        refuse(field, f"must be one of {', '.join(choices)}")


def text(field: str, value: str) -> str:
    """Returns a string argument unchanged.

    Raises:
        InvalidArgument: The value is not a string, or contains a lone surrogate.
    """
    if not isinstance(value, str):
        refuse(field, f"must be a string, not {_type(value)}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            surrogate = f"\\u{ord(value[error.start]):04x}"
            refuse(field, f"contains a lone surrogate ({surrogate}); fix or remove it")
    return value


def refuse(field: str, description: str) -> NoReturn:
    """Raises InvalidArgument for a field, as if the server had refused it."""
    raise InvalidArgument(
        f"{field}: {description}",
        code="INVALID_ARGUMENT",
        reason="VALIDATION_FAILED",
        field_violations=[(field, description)],
    )


def _converted(descriptor: Descriptor, values: Mapping[Any, Any], path: str) -> dict[str, Any]:
    found = {}
    known = _fields(descriptor)
    for name, value in values.items():
        here = f"{path}.{_printable(name)}" if path else name
        if name not in known:
            refuse(here, f"{descriptor.name} has no such field; it has {', '.join(known)}")
        field, unset, convert = known[name]
        if value is not unset:
            found[name] = convert(field, value, here)
    return found


@cache
def _fields(descriptor: Descriptor) -> Mapping[str, tuple[FieldDescriptor, Any, _Convert]]:
    """Returns the fields of a message type by name, with the unset value and conversion of each."""
    known: dict[str, tuple[FieldDescriptor, Any, _Convert]] = {}
    for field in descriptor.fields:
        kind = field.message_type
        if kind is not None and kind.GetOptions().map_entry:
            known[field.name] = field, None, _map
        elif isinstance(field.default_value, list):  # is_repeated does not exist in protobuf 5.29
            known[field.name] = field, (), _list
        else:
            unset = None if field.has_presence else field.default_value
            known[field.name] = field, unset, _CONVERT.get(field.type, _integer)
    return known


def _map(field: Any, value: Any, path: str) -> dict[Any, Any]:
    if not isinstance(value, Mapping):
        refuse(path, f"must be a mapping, not {_type(value)}")
    (of_key, _, convert_key), (of_item, _, convert_item) = _fields(field.message_type).values()
    found = {}
    for key, item in value.items():
        here = f'{path}["{_printable(key)}"]'
        found[convert_key(of_key, key, here)] = convert_item(of_item, item, here)
    return found


def _list(field: Any, value: Any, path: str) -> Sequence[Any]:
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        refuse(path, f"must be a list, not {_type(value)}")
    convert: _Convert = _CONVERT.get(field.type, _integer)
    items: Iterable[Any] = value
    return [convert(field, item, f"{path}[{at}]") for at, item in enumerate(items)]


def _text(_: Any, value: Any, path: str) -> str:
    return text(path, value)


def _bytes(_: Any, value: Any, path: str) -> bytes:
    if not isinstance(value, bytes | bytearray | memoryview):
        refuse(path, f"must be bytes, not {_type(value)}")
    return bytes(value)


def _bool(_: Any, value: Any, path: str) -> bool:
    if not isinstance(value, bool):
        refuse(path, f"must be True or False, not {_type(value)}")
    return value


def _enum(field: Any, value: Any, path: str) -> int:
    if isinstance(value, str) and value in field.enum_type.values_by_name:
        return int(field.enum_type.values_by_name[value].number)
    return _integer(field, value, path)


def _integer(field: Any, value: Any, path: str) -> int:
    least, most = _RANGES[field.type]
    return integer(path, value, least, most)


def _message(field: Any, value: Any, path: str) -> Message | dict[str, Any]:
    kind = field.message_type
    if isinstance(value, Mapping):
        return _converted(kind, value, path)
    if not isinstance(value, Message) or kind != value.DESCRIPTOR:
        refuse(path, f"must be {_with_article(kind.name)}, not {_type(value)}")
    return value


_CONVERT: Mapping[int, _Convert] = {
    FieldDescriptor.TYPE_STRING: _text,
    FieldDescriptor.TYPE_BYTES: _bytes,
    FieldDescriptor.TYPE_BOOL: _bool,
    FieldDescriptor.TYPE_ENUM: _enum,
    FieldDescriptor.TYPE_MESSAGE: _message,
}


def _printable(name: object) -> str:
    """Returns a key as text for a path, with lone surrogates escaped."""
    return str(name).encode("utf-8", "backslashreplace").decode()


def _with_article(name: str) -> str:
    return f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"


def _type(value: object) -> str:
    return "None" if value is None else type(value).__name__
