"""Attachments as the server returns them."""

from threadbus.v1.message_pb2 import Attachment


def file(raw: bytes, *, filename: str = "", media_type: str = "") -> Attachment:
    """Returns an attachment with its size."""
    return Attachment(filename=filename, media_type=media_type, raw=raw, size=len(raw))
