"""Builds requests from their descriptors, so that new fields and methods are covered."""

from random import Random

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from values import Values

#: Fields without which most requests are refused early.
_NEEDED = {"thread", "agent", "content", "posts", "threads", "update_mask", "paths", "seq", "state"}
_NEEDED |= {"max_wait"}
#: Fields with which most requests are refused early.
_SELDOM = {"on_behalf_of", "expected_last_seq", "epoch", "edit_of"}

_TIMES = ("google.protobuf.Duration", "google.protobuf.Timestamp")
#: The maximum depth of nested messages.
_DEPTH = 6


def build(message: Message, rng: Random, values: Values) -> None:
    """Set some fields of a message."""
    _fill(message, rng, values, 0)


def enlarge(message: Message, rng: Random, size: int) -> bool:
    """Fill a string or bytes field with `size` bytes. Returns False if there is no such field."""
    descriptor = message.DESCRIPTOR
    for field in rng.sample(list(descriptor.fields), len(descriptor.fields)):
        if field.cpp_type == FieldDescriptor.CPPTYPE_STRING and not field.is_repeated:
            unit = "a" if rng.random() < 0.7 else rng.choice(("\0", "é", "\U0001f600"))
            text = unit * (size // len(unit.encode()))
            is_bytes = field.type == FieldDescriptor.TYPE_BYTES
            setattr(message, field.name, text.encode() if is_bytes else text)
            return True
    for field in descriptor.fields:
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        inner = getattr(message, field.name)
        if field.is_repeated:
            inner = inner[0] if inner else inner.add()
        if enlarge(inner, rng, size):
            return True
    return False


def _fill(message: Message, rng: Random, values: Values, depth: int) -> None:
    chosen = {rng.choice(oneof.fields).name for oneof in message.DESCRIPTOR.oneofs}
    for field in message.DESCRIPTOR.fields:
        share = _share(field, values)
        # Usually one field of each `oneof`. An optional field is a `oneof` of one field.
        if field.containing_oneof is not None and len(field.containing_oneof.fields) > 1:
            share = 0.95 if field.name in chosen else values.hostility / 4
        if rng.random() < share:
            if field.is_repeated:
                _repeat(message, field, rng, values, depth)
            elif field.message_type is not None:
                inner = getattr(message, field.name)
                inner.SetInParent()
                _set_message(inner, field, rng, values, depth)
            else:
                setattr(message, field.name, values.scalar(field))


def _share(field: FieldDescriptor, values: Values) -> float:
    """Returns the probability that a field is set."""
    if values.hostile():
        return 0.5
    if field.name in _NEEDED:
        return 1.0
    if field.name in _SELDOM:
        return 0.05
    return 0.3


def _set_message(
    message: Message, field: FieldDescriptor, rng: Random, values: Values, depth: int
) -> None:
    if message.DESCRIPTOR.full_name in _TIMES:
        seconds, nanos = values.time(field)
        message.seconds = seconds  # type: ignore[attr-defined]
        message.nanos = nanos  # type: ignore[attr-defined]
    elif depth < _DEPTH:
        _fill(message, rng, values, depth + 1)


def _repeat(
    message: Message, field: FieldDescriptor, rng: Random, values: Values, depth: int
) -> None:
    count = values.count()
    if field.name in _NEEDED:
        count = max(count, 1)
    entries = getattr(message, field.name)
    if field.message_type is None:
        entries.extend(values.scalar(field) for _ in range(count))
        return
    if field.message_type.GetOptions().map_entry:
        parts = field.message_type.fields_by_name
        for _ in range(count):
            # All maps of the contract are from scalars to scalars.
            entries[values.scalar(parts["key"])] = values.scalar(parts["value"])
        return
    for at in range(count):
        if at < 20:
            _set_message(entries.add(), field, rng, values, depth)
        else:
            entries.add().CopyFrom(entries[at % 20])  # building each would take long
