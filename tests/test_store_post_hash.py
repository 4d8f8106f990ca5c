"""The hash by which a retry is compared with the first post: it must never change."""

import os
import subprocess
import sys
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message_factory import GetMessageClass

from bus_server.store.post_hash import plain_post_hash, post_hash
from threadbus.v1.message_pb2 import (
    MESSAGE_KIND_CHAT,
    MESSAGE_KIND_EDIT,
    PRIORITY_HIGH,
    PRIORITY_NORMAL,
    WAKE_ALL,
    Attachment,
    Message,
)

#: Fields that may differ in a retry, and those that a request_id is looked up by.
MAY_DIFFER = {
    "seq",
    "create_time",
    "sender_kind",
    "based_on_seq",
    "edit_seq",
    "content_size",
    "notice",
    "traceparent",
}
LOOKED_UP_BY = {"thread", "sender", "request_id"}

LABELS = {"ab": "1", "a": "2", "b": "", "": "3", "ä": "4", "🙂": "5"}
WHOLE = Message(
    kind=MESSAGE_KIND_EDIT,
    content="ü\0 12",
    priority=PRIORITY_HIGH,
    reply_to=1,
    mentions=["bert", "anna"],
    handoff_to="anna",
    edit_of=2,
    posted_by="operator",
    labels=LABELS,
    attachments=[
        Attachment(filename="f", media_type="a/b", raw=b"\0\xff"),
        Attachment(filename="u", url="https://x.test/"),
    ],
)


def sample(field: FieldDescriptor) -> dict[str, Any]:
    """Returns arguments for a message with this field set."""
    if field.name == "labels":
        return {"labels": {"k": "v"}}
    if field.message_type is not None:
        value: Any = GetMessageClass(field.message_type)()
    else:
        # 2: the first value of `wakes` that is not the default.
        value = "x" if field.cpp_type == FieldDescriptor.CPPTYPE_STRING else 2
    return {field.name: [value] if field.is_repeated else value}


@pytest.mark.parametrize("field", list(Message.DESCRIPTOR.fields), ids=lambda field: field.name)
def test_the_hash_covers_every_field_but_those_that_may_differ(field: FieldDescriptor) -> None:
    same = post_hash(Message(**sample(field))) == post_hash(Message())
    assert same == (field.name in MAY_DIFFER | LOOKED_UP_BY)


@pytest.mark.parametrize(
    "file",
    [
        {"filename": "x"},
        {"media_type": "x"},
        {"raw": b""},
        {"raw": b"x"},
        {"url": ""},
        {"url": "x"},
    ],
    ids=str,
)
def test_the_hash_covers_every_field_of_an_attachment(file: dict[str, Any]) -> None:
    assert {field.name for field in Attachment.DESCRIPTOR.fields} - {"size"} == {
        *("filename", "media_type", "raw", "url")
    }
    hashes = [post_hash(Message(attachments=[Attachment(**other)])) for other in ({}, file)]
    assert hashes[0] != hashes[1]


def test_the_hash_does_not_cover_the_sizes_that_the_server_sets() -> None:
    with_size, without = (Message(attachments=[Attachment(raw=b"x", size=n)]) for n in (1, 0))
    with_size.content_size = 5
    assert post_hash(with_size) == post_hash(without)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"content": "a mention 1 b"}, {"content": "a", "mentions": ["b"]}),
        ({"mentions": ["a", "b"]}, {"mentions": ["b", "a"]}),
        ({"mentions": ["ab"]}, {"mentions": ["a", "b"]}),
        ({"labels": {"a": "1", "b": "2"}}, {"labels": {"a": "2", "b": "1"}}),
        ({"labels": {"a": "b 1 c"}}, {"labels": {"a": "b", "c": ""}}),
        ({"handoff_to": "a"}, {"posted_by": "a"}),
        ({"attachments": [{"raw": b"x"}]}, {"attachments": [{"url": "x"}]}),
        ({"attachments": [{"raw": b"x"}, {}]}, {"attachments": [{}, {"raw": b"x"}]}),
    ],
    ids=str,
)
def test_similar_bodies_have_different_hashes(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert post_hash(Message(**one)) != post_hash(Message(**other))


def test_the_hash_is_the_one_stored_in_existing_files() -> None:
    # If it changed, repetitions across an upgrade would be refused as other messages.
    small = Message(kind=MESSAGE_KIND_CHAT, content="x", priority=PRIORITY_NORMAL)
    assert post_hash(small).hex() == "1f680fc955b55f8975fd4f165889bf8a"
    assert post_hash(WHOLE).hex() == "e0d99513186e598411dd4a43e57af519"


def test_a_post_that_wakes_everybody_has_the_hash_of_one_that_does_not_say_whom() -> None:
    assert post_hash(Message(content="x", wakes=WAKE_ALL)) == post_hash(Message(content="x"))


def test_the_hash_does_not_depend_on_the_order_of_labels() -> None:
    turned = Message()
    turned.CopyFrom(WHOLE)
    turned.labels.clear()
    turned.labels.update(reversed(LABELS.items()))
    assert post_hash(turned) == post_hash(WHOLE)


@pytest.mark.slow
def test_another_implementation_of_protobuf_makes_the_same_hash() -> None:
    code = "from tests.test_store_post_hash import *; print(post_hash(WHOLE).hex())"
    other = os.environ | {"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=other, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == post_hash(WHOLE).hex()


@pytest.mark.parametrize("content", ["x", "", "1 2 0", "naïve 😀", "\0"])
def test_the_hash_of_a_plain_post_is_that_of_its_message(content: str) -> None:
    message = Message(content=content, kind=MESSAGE_KIND_CHAT, priority=PRIORITY_NORMAL)
    assert plain_post_hash(content) == post_hash(message)
