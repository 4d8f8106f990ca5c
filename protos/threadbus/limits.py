"""The contract's limits on sizes, counts and times, for the server and the client alike.

The comments of the protos state the same numbers, which a test checks. Texts and messages are
measured in bytes, texts in those of UTF-8. Limits that a server can change are not here:
GetServerInfo returns them.
"""

_KIB, _MIB = 1024, 1024 * 1024

#: Bytes of a request, a response or a frame. It is the default limit of gRPC's clients.
MAX_CALL_BYTES = 4 * _MIB
#: Bytes of an encoded message. Each fits into a frame, with room for what the frame adds.
MAX_MESSAGE_BYTES = 3 * _MIB
#: Posts in a PostMessagesRequest.
MAX_BATCH_POSTS = 1_000
#: Threads in a WaitMessagesRequest, and read cursors in a HeartbeatRequest.
MAX_WAIT_THREADS = 1_000
#: Items in a page of a list: if the request names no limit, and at most.
DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE = 100, 1_000
#: Values in a repeated field that filters (senders, kinds, states, presences), or in a field mask.
MAX_FILTER_VALUES = 100

#: Seqs are less than this, so that a double represents each exactly.
SEQ_LIMIT = 2**53
#: Bytes of a thread's epoch.
MAX_EPOCH_BYTES = 32

#: Agents that a message mentions.
MAX_MENTIONS = 32
#: Files that go with a message.
MAX_ATTACHMENTS = 16
#: Bytes of an attachment's filename, and of its URL.
MAX_FILENAME_BYTES, MAX_URL_BYTES = 255, 2 * _KIB
#: Labels of a message, thread or agent.
MAX_LABELS = 32
#: Bytes of a label's key, which must not be empty, and of its value.
MAX_LABEL_KEY_BYTES, MAX_LABEL_VALUE_BYTES = 63, 256

#: Bytes of a thread's topic and of its stage.
MAX_TOPIC_BYTES, MAX_STAGE_BYTES = 1 * _KIB, 63
#: Bytes of an agent's display name, description and status text.
MAX_DISPLAY_NAME_BYTES, MAX_DESCRIPTION_BYTES, MAX_STATUS_TEXT_BYTES = 128, 1 * _KIB, 256

#: Seconds of the longest lease that a heartbeat can ask for.
MAX_LEASE = 3_600.0
#: Seconds of the longest time that a token stays valid after its rotation.
MAX_GRACE = 3_600.0
