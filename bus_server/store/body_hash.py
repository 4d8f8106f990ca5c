"""What two posts with one request_id must share, in a few bytes that are kept in the file."""

import hashlib
from collections.abc import Iterator

from threadbus.v1.message_pb2 import Message


def body_hash(message: Message) -> bytes:
    """16 bytes of a SHA-256 of a post's body.

    That is every field but seq, create_time, sender_kind, based_on_seq and edit_seq; thread, sender
    and request_id are what the hash is found by.

    It must be the same in servers to come, so it is made of the values themselves: protobuf puts
    the keys of a map in an order of each implementation's own even when told to be deterministic.
    Each text has its length before it. What follows the content is there when it is set only, as a
    field that is new must be: then no hash of a message without it changes.
    """
    m = message
    handoff, by, content = m.handoff_to, m.posted_by, m.content
    text = (
        f"{m.kind} {m.priority} {m.reply_to} {m.edit_of}"
        f" {len(handoff)} {handoff} {len(by)} {by} {len(content)} {content}"
    )
    if m.mentions:
        text += "".join(f" mention {len(name)} {name}" for name in m.mentions)
    if m.labels:
        text += "".join(
            f" label {len(key)} {key} {len(value)} {value}"
            for key, value in sorted(m.labels.items())
        )
    hashed = hashlib.sha256(text.encode())
    if m.attachments:
        for part in _attachments(m):
            hashed.update(part)
    return hashed.digest()[:16]


def _attachments(message: Message) -> Iterator[bytes]:
    for file in message.attachments:
        name, kind = file.filename, file.media_type
        yield f" file {len(name)} {name} {len(kind)} {kind}".encode()
        if file.HasField("raw"):
            raw = file.raw
            yield f" raw {len(raw)} ".encode()
            yield raw
        if file.HasField("url"):
            yield f" url {len(file.url)} {file.url}".encode()
