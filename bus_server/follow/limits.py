"""The sizes and times of wait loops."""

#: Limits of a frame, in bytes of messages and in messages. One message is always allowed.
FRAME_BYTES = 1024 * 1024
FRAME_MESSAGES = 1_000
#: Maximum number of messages that are parsed at a time, to filter or to shorten them. The former
#: takes the event loop half a millisecond.
FILTER_MESSAGES = 250

#: Seconds to wait for room for a frame before checking whether the wait must end.
ROOM_TIMEOUT = 0.25

#: Keepalives are sent at multiples of a tick, which is at most this many seconds. With ten thousand
#: idle waits, a hundred keepalives sent at once cost a quarter of a hundred separate wake-ups.
TICK = 0.5
