"""Response types that hold messages in serialised form, as the store has them.

On the wire, a nested message looks like a bytes field. So these are the types of bus_service.proto
with each field of type threadbus.v1.Message declared as bytes. They encode to the same responses,
in a third of the time, as no message is parsed and serialised again.
"""

from collections.abc import Sequence
from typing import Any

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from bus_server.trim import Trim
from threadbus.v1.bus_service_pb2 import DESCRIPTOR
from threadbus.v1.message_pb2 import Message


def _pool() -> DescriptorPool:
    pool = DescriptorPool()

    def add(file: FileDescriptor) -> None:
        for imported in file.dependencies:
            add(imported)
        declared = FileDescriptorProto()
        file.CopyToProto(declared)
        if file is DESCRIPTOR:
            for message in declared.message_type:
                for field in message.field:
                    if field.type_name == f".{Message.DESCRIPTOR.full_name}":
                        field.ClearField("type_name")
                        field.type = FieldDescriptorProto.TYPE_BYTES
        pool.AddSerializedFile(declared.SerializeToString())

    add(DESCRIPTOR)
    return pool


_POOL = _pool()


def _encoded(name: str) -> Any:
    return GetMessageClass(_POOL.FindMessageTypeByName(f"{DESCRIPTOR.package}.{name}"))


GetMessageResponse = _encoded("GetMessageResponse")
ListMessagesResponse = _encoded("ListMessagesResponse")
WaitMessagesResponse = _encoded("WaitMessagesResponse")


_CURSOR = "thread", "after_seq", "epoch", "hidden_seq"
#: The maximum number of Trims whose last frames are cached. A frame may have 4 MiB.
MAX_TRIMS = 4


class _Last:
    """The last frame of waits with one Trim, and what it was made of."""

    __slots__ = ("bodies", "cursor", "frame", "trimmed", "whole")

    def __init__(self) -> None:
        self.cursor = "", 0, "", 0
        self.bodies: Sequence[bytes] = ()
        self.frame = b""
        #: The messages that were shortened last, before and after.
        self.whole: Sequence[bytes] = ()
        self.trimmed: Sequence[bytes] = ()


class BatchEncoder:
    """An encoder of WaitMessagesResponse frames with a MessageBatch.

    Caches the last frame: a post wakes many waits at the same position, and all send that frame.
    Those that want messages shortened send another, which is cached beside it.
    """

    def __init__(self) -> None:
        self._last: dict[Trim | None, _Last] = {None: _Last()}

    def encode(
        self,
        thread: str,
        after_seq: int,
        epoch: str,
        hidden_seq: int,
        bodies: Sequence[bytes],
        trim: Trim | None = None,
    ) -> bytes:
        """Returns the serialised frame with this cursor and these serialised messages.

        `trim`: how they were shortened; None: they are whole.
        """
        last = self._last_of(trim)
        cursor = thread, after_seq, epoch, hidden_seq
        # Identical objects, such as those in Recent, are compared without looking at their bytes.
        if cursor != last.cursor or bodies != last.bodies:
            batch = {
                "cursor": dict(zip(_CURSOR, cursor, strict=True)),
                "messages": bodies,
            }
            last.frame = WaitMessagesResponse(messages=batch).SerializeToString()
            last.cursor, last.bodies = cursor, bodies
        return last.frame

    def shorten(self, bodies: Sequence[bytes], trim: Trim) -> Sequence[bytes]:
        """Returns the messages as `trim` shortens them."""
        last = self._last_of(trim)
        if bodies != last.whole:
            last.whole, last.trimmed = bodies, trim.of(bodies)
        return last.trimmed

    def _last_of(self, trim: Trim | None) -> _Last:
        last = self._last.get(trim)
        if last is None:
            if len(self._last) > MAX_TRIMS:
                _, oldest, *_ = self._last  # the first is that of whole messages, which stays
                del self._last[oldest]
            last = self._last[trim] = _Last()
        return last
