"""Responses made of serialised messages: the same bytes as from parsed ones."""

import tracemalloc

from bus_server import encoding
from bus_server.encoding import MAX_TRIMS, BatchEncoder
from bus_server.trim import Trim
from threadbus.v1 import bus_service_pb2 as pb
from threadbus.v1.message_pb2 import Cursor, Message

MESSAGES = [
    Message(thread="t", seq=seq, content=f"message {seq}", content_size=9) for seq in (1, 2)
]
BODIES = [message.SerializeToString() for message in MESSAGES]


def batch(encoder: BatchEncoder, after_seq: int, bodies: list[bytes]) -> pb.MessageBatch:
    frame = encoder.encode("t", after_seq, "epoch", 0, bodies)
    return pb.WaitMessagesResponse.FromString(frame).messages


def test_a_frame_holds_its_cursor_and_its_messages() -> None:
    assert batch(BatchEncoder(), 2, BODIES) == pb.MessageBatch(
        cursor=Cursor(thread="t", after_seq=2, epoch="epoch"), messages=MESSAGES
    )


def test_waits_at_one_position_share_a_frame_and_others_do_not() -> None:
    encoder = BatchEncoder()
    frame = encoder.encode("t", 2, "epoch", 0, BODIES)
    assert encoder.encode("t", 2, "epoch", 0, list(BODIES)) is frame
    assert encoder.encode("t", 2, "epoch", 1, BODIES) != frame
    assert batch(encoder, 3, BODIES).cursor.after_seq == 3
    edited = [BODIES[0], Message(thread="t", seq=2, edit_seq=5).SerializeToString()]
    assert batch(encoder, 3, edited).messages[1].edit_seq == 5
    assert len(batch(encoder, 3, BODIES[:1]).messages) == 1


def test_waits_that_shorten_messages_share_frames_beside_those_that_do_not() -> None:
    encoder = BatchEncoder()
    trims = [Trim(False, most) for most in range(1, MAX_TRIMS + 1)]
    whole = encoder.encode("t", 2, "epoch", 0, BODIES)

    def frame(trim: Trim) -> bytes:
        return encoder.encode("t", 2, "epoch", 0, encoder.shorten(list(BODIES), trim), trim)

    frames = [frame(trim) for trim in trims]
    assert [frame(trim) for trim in trims] == frames
    assert all(frame(trim) is before for trim, before in zip(trims, frames, strict=True))
    assert encoder.encode("t", 2, "epoch", 0, BODIES) is whole
    contents = [pb.WaitMessagesResponse.FromString(each).messages.messages for each in frames]
    assert [[m.content for m in each] for each in contents] == [
        ["message 1"[:most], "message 2"[:most]] for most in range(1, MAX_TRIMS + 1)
    ]


def test_frames_of_few_ways_to_shorten_messages_are_kept() -> None:
    encoder = BatchEncoder()
    whole = encoder.encode("t", 2, "epoch", 0, BODIES)
    tracemalloc.start()
    try:
        for most in range(1, 100):
            large = [Message(content="x" * 100_000, content_size=100_000).SerializeToString()]
            trim = Trim(False, 90_000 + most)
            encoder.encode("t", 2, "epoch", 0, encoder.shorten(large, trim), trim)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 2_000_000
    assert encoder.encode("t", 2, "epoch", 0, BODIES) is whole


def test_pages_equal_those_of_parsed_messages() -> None:
    page = encoding.ListMessagesResponse(messages=BODIES, head_seq=2, first_seq=1, has_more=True)
    assert pb.ListMessagesResponse.FromString(page.SerializeToString()) == pb.ListMessagesResponse(
        messages=MESSAGES, head_seq=2, first_seq=1, has_more=True
    )
    one = encoding.GetMessageResponse(message=BODIES[0])
    assert pb.GetMessageResponse.FromString(one.SerializeToString()).message == MESSAGES[0]
