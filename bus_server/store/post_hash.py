"""A hash of a post, stored to detect the reuse of a request_id for a different post."""

import hashlib
from collections.abc import Iterator

from threadbus.v1.message_pb2 import (
    MESSAGE_KIND_CHAT,
    PRIORITY_NORMAL,
    WAKE_ALL,
    WAKE_UNSPECIFIED,
    Message,
)

#: What is hashed of a plain post before its content: no reply, no edit, nobody addressed.
_PLAIN = f"{MESSAGE_KIND_CHAT} {PRIORITY_NORMAL} 0 0 0  0 "


def post_hash(message: Message) -> bytes:
    """Returns the first 16 bytes of a SHA-256 of what was posted.

    All fields are hashed except seq, create_time, sender_kind, based_on_seq, edit_seq, notice,
    content_size, traceparent and the sizes of attachments, and the key that the hash is stored
    under: thread, sender and request_id.

    Future servers must compute the same hash, so it is built from the values themselves: even
    deterministic serialisation in protobuf orders the keys of a map differently in each
    implementation. Each text is preceded by its length. Fields after the content are included only
    if they are set. New fields must be treated likewise, so that the hashes of messages without
    them do not change. So WAKE_ALL, the default, is not included.
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
    if m.wakes not in (WAKE_UNSPECIFIED, WAKE_ALL):
        text += f" wakes {m.wakes}"
    if m.HasField("expect_reply"):
        text += f" within {m.expect_reply.within.ToMicroseconds()}"
        text += "".join(f" asks {len(name)} {name}" for name in m.expect_reply.agents)
    hashed = hashlib.sha256(text.encode())
    if m.attachments:
        for part in _attachments(m):
            hashed.update(part)
    return hashed.digest()[:16]


def plain_post_hash(content: str) -> bytes:
    """Returns the post_hash of a CHAT message of priority NORMAL that has only content."""
    text = f"{_PLAIN} {len(content)} {content}"
    return hashlib.sha256(text.encode()).digest()[:16]


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
