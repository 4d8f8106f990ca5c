"""Responses made of serialised messages: the same bytes as from parsed ones."""

from bus_server import encoding
from bus_server.encoding import BatchEncoder
from threadbus.v1 import bus_service_pb2 as pb
from threadbus.v1.message_pb2 import Cursor, Message

MESSAGES = [Message(thread="t", seq=seq, content=f"message {seq}") for seq in (1, 2)]
BODIES = [message.SerializeToString() for message in MESSAGES]


def batch(encoder: BatchEncoder, after_seq: int, bodies: list[bytes]) -> pb.MessageBatch:
    frame = encoder.encode("t", after_seq, "epoch", bodies)
    return pb.WaitMessagesResponse.FromString(frame).messages


def test_a_frame_holds_its_cursor_and_its_messages() -> None:
    assert batch(BatchEncoder(), 2, BODIES) == pb.MessageBatch(
        cursor=Cursor(thread="t", after_seq=2, epoch="epoch"), messages=MESSAGES
    )


def test_waits_at_one_position_share_a_frame_and_others_do_not() -> None:
    encoder = BatchEncoder()
    frame = encoder.encode("t", 2, "epoch", BODIES)
    assert encoder.encode("t", 2, "epoch", list(BODIES)) is frame
    assert batch(encoder, 3, BODIES).cursor.after_seq == 3
    edited = [BODIES[0], Message(thread="t", seq=2, edit_seq=5).SerializeToString()]
    assert batch(encoder, 3, edited).messages[1].edit_seq == 5
    assert len(batch(encoder, 3, BODIES[:1]).messages) == 1


def test_pages_equal_those_of_parsed_messages() -> None:
    page = encoding.ListMessagesResponse(messages=BODIES, head_seq=2, first_seq=1, has_more=True)
    assert pb.ListMessagesResponse.FromString(page.SerializeToString()) == pb.ListMessagesResponse(
        messages=MESSAGES, head_seq=2, first_seq=1, has_more=True
    )
    one = encoding.GetMessageResponse(message=BODIES[0])
    assert pb.GetMessageResponse.FromString(one.SerializeToString()).message == MESSAGES[0]
