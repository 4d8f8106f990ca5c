"""What a reader does not want of messages: the bytes of attachments, and the rest of long texts."""

from collections.abc import Iterable
from dataclasses import dataclass

from bus_server.cutting import cut
from threadbus.v1.message_pb2 import Message


@dataclass(frozen=True, slots=True)
class Trim:
    """How to shorten the messages of a response. At least one field is set."""

    omit_attachment_data: bool
    max_content_bytes: int  # 0: no limit

    def of(self, bodies: Iterable[bytes]) -> list[bytes]:
        """Returns the messages shortened. `bodies`: serialised Messages with sizes."""
        return [self._of(body) for body in bodies]

    def _of(self, body: bytes) -> bytes:
        if not self.omit_attachment_data and len(body) <= self.max_content_bytes:
            return body
        message = Message.FromString(body)
        if self.omit_attachment_data:
            for file in message.attachments:
                file.ClearField("raw")
        if 0 < self.max_content_bytes < message.content_size:
            message.content = cut(message.content, self.max_content_bytes)
        return message.SerializeToString()
