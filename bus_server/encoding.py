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


class BatchEncoder:
    """An encoder of WaitMessagesResponse frames with a MessageBatch.

    Caches the last frame: a post wakes many waits at the same position, and all send that frame.
    """

    def __init__(self) -> None:
        self._cursor = "", 0, ""
        self._bodies: Sequence[bytes] = ()
        self._frame = b""

    def encode(self, thread: str, after_seq: int, epoch: str, bodies: Sequence[bytes]) -> bytes:
        """Returns the serialised frame with this cursor and these serialised messages."""
        cursor = thread, after_seq, epoch
        # Identical objects, such as those in Recent, are compared without looking at their bytes.
        if cursor != self._cursor or bodies != self._bodies:
            batch = {
                "cursor": {"thread": thread, "after_seq": after_seq, "epoch": epoch},
                "messages": bodies,
            }
            self._frame = WaitMessagesResponse(messages=batch).SerializeToString()
            self._cursor, self._bodies = cursor, bodies
        return self._frame
