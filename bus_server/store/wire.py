"""Encodes fields in protobuf's wire format, as far as posts need it.

A message's fields may be in any order, and parsers use the last value of a singular field. So
fields can be added to a serialised message by appending them.
https://protobuf.dev/programming-guides/encoding/
"""

_VARINT, _LENGTH_DELIMITED = 0, 2


def number(field: int, value: int) -> bytes:
    """Returns an integer or enum field. `field`: its number; `value`: 0 or greater."""
    return _varint(field << 3 | _VARINT) + _varint(value)


def text(field: int, value: bytes) -> bytes:
    """Returns a string or bytes field. `field`: its number, below 16."""
    return bytes((field << 3 | _LENGTH_DELIMITED,)) + _varint(len(value)) + value


def text_size(length: int) -> int:
    """Returns the size in bytes of a string or bytes field whose value has `length` bytes."""
    return 1 + len(_varint(length)) + length


def _varint(value: int) -> bytes:
    if value < 1 << 7:
        return bytes((value,))
    if value < 1 << 14:
        return bytes((value & 127 | 128, value >> 7))
    encoded = bytearray()
    while value >= 1 << 7:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
