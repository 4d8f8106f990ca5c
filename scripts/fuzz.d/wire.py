"""Damages the bytes of a request."""

from collections.abc import Callable
from random import Random

#: The maximum size of a damaged request in bytes.
_MOST = 5 * 1024 * 1024
#: The unknown field 1023 as a number, as bytes, and as a group that contains a number.
_UNKNOWN = (b"\xf8\x3f\x07", b"\xfa\x3f\x03abc", b"\xfb\x3f\x08\x01\xfc\x3f", b"\xfd\x3f\0\0\0\0")
_WORDS = (
    *(b"\xff", b"\0", b"\x07", b"\x80" * 12, b"\xff" * 10, b"\xff" * 9 + b"\x01", b"\x0a\x00"),
    *(b"\x0a\xff\xff\xff\xff\x07", b"\xed\xa0\x80", b"\xc3\x28", b"\xf8\x88\x80\x80\x80", b"\x0b"),
    *(b"\x0c", b'{"thread": "a"}', b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0", b"\x1f\x8b\x08"),
)


def damage(data: bytes, rng: Random) -> bytes:
    """Returns the bytes of a request with one to four kinds of damage."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        data = rng.choice(_WAYS)(data, rng)[:_MOST]
    return data


def garbage(rng: Random) -> bytes:
    """Returns bytes that are not a damaged request, but garbage."""
    return rng.choice(
        (
            rng.randbytes(rng.choice((1, 2, 10, 100, 10_000))),
            rng.choice(_WORDS) * rng.choice((1, 1, 3, 1_000)),
            bytes([rng.randrange(256)]) * rng.choice((1, 10, 100_000)),
        )
    )


def unknown_bytes(size: int) -> bytes:
    """Returns an unknown field of `size` bytes."""
    return b"\xfa\x3f" + _varint(size) + b"\0" * size


def _flip(data: bytes, rng: Random) -> bytes:
    if not data:
        return b"\x01"
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 8))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _overwrite(data: bytes, rng: Random) -> bytes:
    at, word = rng.randrange(len(data) + 1), rng.choice(_WORDS)
    return data[:at] + word + data[at + len(word) :]


def _insert(data: bytes, rng: Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice(_WORDS) + data[at:]


def _cut_short(data: bytes, rng: Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _cut_out(data: bytes, rng: Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + data[at + rng.randrange(1, 20) :]


def _twice(data: bytes, rng: Random) -> bytes:
    """Repeat each field. Of a singular field, the last value counts; messages are merged."""
    return data + (data if rng.random() < 0.5 else _flip(data, rng))


def _repeat_part(data: bytes, rng: Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    part = data[at : at + rng.randrange(1, 20)]
    return data[:at] + part * rng.choice((2, 3, 1_100)) + data[at:]


def _unknown(data: bytes, rng: Random) -> bytes:
    return data + rng.choice(_UNKNOWN) * rng.choice((1, 2, 500))


def _nest(data: bytes, rng: Random) -> bytes:
    """Nest groups, closed or not, or a field in itself: parsers limit the depth."""
    depth = rng.choice((2, 50, 99, 100, 101, 10_000))
    field = rng.randrange(1, 16)
    if rng.random() < 0.7:
        start, end = bytes([field << 3 | 3]), bytes([field << 3 | 4])
        return data + start * depth + end * rng.choice((depth, depth, depth - 1, 0))
    for _ in range(min(depth, 200)):
        data = bytes([field << 3 | 2]) + _varint(len(data)) + data
    return data


def _wire_type(data: bytes, rng: Random) -> bytes:
    """Change the wire type of the first tag, or of a byte that may be a tag."""
    if not data:
        return b"\x0e"
    at = 0 if rng.random() < 0.5 else rng.randrange(len(data))
    return data[:at] + bytes([data[at] & 0xF8 | rng.randrange(8)]) + data[at + 1 :]


def _overlong(data: bytes, rng: Random) -> bytes:
    """Encode a small number in more bytes than it needs."""
    if not data:
        return b"\x80\x00"
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] | 0x80]) + b"\x80" * rng.randrange(12) + b"\0" + data[at:]


def _not_text(data: bytes, rng: Random) -> bytes:
    """Replace a letter by a byte that is not valid UTF-8."""
    letters = [at for at, byte in enumerate(data[:2_000]) if 0x60 < byte < 0x7B]
    if not letters:
        return data + b"\xff"
    at = rng.choice(letters)
    return data[:at] + bytes([rng.choice((0xFF, 0x80, 0xC0, 0xF8))]) + data[at + 1 :]


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


_WAYS: tuple[Callable[[bytes, Random], bytes], ...] = (
    *(_flip, _overwrite, _insert, _cut_short, _cut_out, _twice, _repeat_part, _unknown, _nest),
    *(_wire_type, _overlong, _not_text),
)
