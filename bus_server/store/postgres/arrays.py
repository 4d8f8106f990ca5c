"""Parameters of statements: arrays whose type does not depend on what they hold.

psycopg would choose the type of a list by its elements. A statement would then be prepared again
for each combination of types, and an empty list would have none. int, str and bytes always become
bigint, text and bytea here, too.
"""

import struct
from collections.abc import Iterable
from typing import Any, ClassVar, TypeVar

from psycopg import adapt, adapters
from psycopg.pq import Format
from psycopg.types.numeric import Int8BinaryDumper
from psycopg.types.string import BytesBinaryDumper, StrBinaryDumper

K = TypeVar("K", bound=tuple[Any, ...])


class Ints(list[int]):
    """A bigint[]."""


class Texts(list[str]):
    """A text[]. The elements have no NUL, which PostgreSQL refuses."""


class Blobs(list[bytes | None]):
    """A bytea[]."""


class _ArrayDumper(adapt.Dumper):
    """Writes the binary format of an array of one dimension (array_recv in PostgreSQL)."""

    format = Format.BINARY
    #: The type of the elements, as in pg_type.
    element: ClassVar[int]

    def dump(self, obj: list[object]) -> bytes:
        # Dimensions, whether there are NULLs, type; then the length and the lowest index.
        if not obj:
            return struct.pack("!iiI", 0, 0, self.element)
        header = struct.pack("!iiIii", 1, None in obj, self.element, len(obj), 1)
        return header + b"".join([self.of(element) for element in obj])

    def of(self, element: object) -> bytes:
        """Returns an element: its size, and its value."""
        raise NotImplementedError


class _IntsDumper(_ArrayDumper):
    oid, element = 1016, 20

    def of(self, element: object) -> bytes:
        return struct.pack("!iq", 8, element)


class _TextsDumper(_ArrayDumper):
    oid, element = 1009, 25

    def of(self, element: object) -> bytes:
        assert isinstance(element, str)  # noqa: S101 - for the type checker
        text = element.encode()
        return struct.pack("!i", len(text)) + text


class _BlobsDumper(_ArrayDumper):
    oid, element = 1001, 17

    def of(self, element: object) -> bytes:
        if element is None:
            return struct.pack("!i", -1)
        assert isinstance(element, bytes)  # noqa: S101 - for the type checker
        return struct.pack("!i", len(element)) + element


#: How connections write parameters.
ADAPTERS = adapt.AdaptersMap(adapters)
for _type, _dumper in (
    (Ints, _IntsDumper),
    (Texts, _TextsDumper),
    (Blobs, _BlobsDumper),
    (int, Int8BinaryDumper),
    (str, StrBinaryDumper),
    (bytes, BytesBinaryDumper),
):
    ADAPTERS.register_dumper(_type, _dumper)


def texts(names: Iterable[str]) -> Texts:
    """Returns the names that have no NUL: no stored name has one."""
    return Texts(name for name in names if "\0" not in name)


def without_nul(keys: Iterable[K]) -> list[K]:
    """Returns the keys of which no text has a NUL: no stored key has one."""
    return [key for key in keys if not any(isinstance(part, str) and "\0" in part for part in key)]
