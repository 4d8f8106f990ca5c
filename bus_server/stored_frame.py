"""A WaitMessagesResponse of messages as the store has them.

On the wire a message inside a message is its bytes, so a frame whose messages are declared as bytes
is the same frame. Replay sends such: without parsing each message and serialising it again a frame
takes a third of the processor time.
"""

from collections.abc import Iterable
from typing import Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from threadbus.v1.bus_service_pb2 import MessageBatch, WaitMessagesResponse
from threadbus.v1.message_pb2 import Cursor

_BYTES = FieldDescriptorProto.TYPE_BYTES
_MESSAGE = FieldDescriptorProto.TYPE_MESSAGE


def _declared() -> Any:
    file = FileDescriptorProto(name="stored_frame.proto", syntax="proto3")
    batch = file.message_type.add(name="Batch")
    for name, label in (
        ("cursor", FieldDescriptorProto.LABEL_OPTIONAL),
        ("messages", FieldDescriptorProto.LABEL_REPEATED),
    ):
        number = MessageBatch.DESCRIPTOR.fields_by_name[name].number
        batch.field.add(name=name, number=number, label=label, type=_BYTES)
    file.message_type.add(name="Frame").field.add(
        name="messages",
        number=WaitMessagesResponse.DESCRIPTOR.fields_by_name["messages"].number,
        label=FieldDescriptorProto.LABEL_OPTIONAL,
        type=_MESSAGE,
        type_name="Batch",
    )
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return GetMessageClass(pool.FindMessageTypeByName("Frame"))


_Frame = _declared()


def stored_frame(cursor: Cursor, bodies: Iterable[bytes]) -> Message:
    """The frame of a MessageBatch with this cursor and these serialised messages."""
    frame: Message = _Frame(messages={"cursor": cursor.SerializeToString(), "messages": bodies})
    return frame
