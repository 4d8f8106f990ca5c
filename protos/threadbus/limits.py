"""The contract's limits on sizes, counts and times, shared by server and client.

The comments of the protos state the same numbers, which a test checks. Messages are measured in
encoded bytes, texts in bytes of UTF-8. Limits that a server can change are not here: GetServerInfo
returns them.
"""

_KIB, _MIB = 1024, 1024 * 1024

#: Maximum bytes of a request, a response or a frame: gRPC's default limit for received messages.
MAX_CALL_BYTES = 4 * _MIB
#: Maximum bytes of an encoded message: a frame has room for it and the frame's other fields.
MAX_MESSAGE_BYTES = 3 * _MIB
#: Maximum number of posts in a PostMessagesRequest.
MAX_BATCH_POSTS = 1_000
#: Maximum number of threads in a WaitMessagesRequest, and read cursors in a HeartbeatRequest.
MAX_WAIT_THREADS = 1_000
#: Number of items in a page of a list: the default and the maximum.
DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE = 100, 1_000
#: Maximum number of values in a repeated field that filters (senders, kinds, states, presences),
#: and of paths in a field mask.
MAX_FILTER_VALUES = 100

#: Seqs are less than this, so that a double represents each exactly.
SEQ_LIMIT = 2**53
#: Maximum bytes of a thread's epoch.
MAX_EPOCH_BYTES = 32

#: Maximum number of agents that a message can mention.
MAX_MENTIONS = 32
#: Maximum number of attachments of a message.
MAX_ATTACHMENTS = 16
#: Maximum bytes of an attachment's filename, and of its URL.
MAX_FILENAME_BYTES, MAX_URL_BYTES = 255, 2 * _KIB
#: Maximum number of labels of a message, thread or agent.
MAX_LABELS = 32
#: Maximum bytes of a label's key, which must not be empty, and of its value.
MAX_LABEL_KEY_BYTES, MAX_LABEL_VALUE_BYTES = 63, 256

#: Maximum bytes of a thread's topic and of its stage.
MAX_TOPIC_BYTES, MAX_STAGE_BYTES = 1 * _KIB, 63
#: Maximum bytes of an agent's display name, description and status text.
MAX_DISPLAY_NAME_BYTES, MAX_DESCRIPTION_BYTES, MAX_STATUS_TEXT_BYTES = 128, 1 * _KIB, 256

#: Longest time in which a message can ask for a reply, in seconds.
MAX_WITHIN = 365 * 86_400.0
#: Longest lease that a heartbeat can request, in seconds.
MAX_LEASE = 3_600.0
#: Longest time that a token can remain valid after its rotation, in seconds.
MAX_GRACE = 3_600.0
#: Longest lifetime of a token that has one, in seconds: 10 years.
MAX_LIFETIME = 10 * 365 * 86_400.0
#: Maximum number of thread prefixes of a token.
MAX_THREAD_PREFIXES = 20
