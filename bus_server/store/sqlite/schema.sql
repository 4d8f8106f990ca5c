-- The embedded store. Times are integers, in microseconds since the epoch. Those of presence and
-- token.expire_time are on the store's own clock (clock.py), which is never set. Those of thread and
-- message are order times (order.py), which count how many times the wall clock went back before.

-- The identity of this file; one row.
CREATE TABLE store (epoch TEXT NOT NULL) STRICT;

-- How far the store's clock is ahead of the system's monotonic clock; one row.
CREATE TABLE clock (
    boot TEXT NOT NULL, -- of the machine; another boot gets a new base
    base INTEGER NOT NULL
) STRICT;

-- Ids are never reused, so that the messages of a deleted thread can be deleted later. body is the
-- serialised threadbus.v1.Thread without the fields that have columns or follow from the messages.
CREATE TABLE thread (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    epoch TEXT NOT NULL,
    state INTEGER NOT NULL,
    sync_mode INTEGER NOT NULL,
    active_time INTEGER NOT NULL, -- when it was last active, to the second: activity.py
    body BLOB NOT NULL
) STRICT;
CREATE INDEX thread_active ON thread (state, active_time);
-- Names that differ only by case.
CREATE INDEX thread_name_nocase ON thread (name COLLATE NOCASE);

-- id = thread.id << 32 | seq, so that a thread's log is one run of one B-tree, its head is the
-- newest id of the run, and a commit of one message touches one page.
-- body is the serialised threadbus.v1.Message as it was appended. Fields that posts are checked
-- against have columns, because bodies can be large.
CREATE TABLE message (
    id INTEGER PRIMARY KEY,
    time INTEGER NOT NULL,
    sender TEXT NOT NULL,
    body BLOB NOT NULL
) STRICT;

-- The columns that edits check and change. Large messages and edits have a row from the start,
-- others from their first edit; until then, the body has these fields.
CREATE TABLE entry (
    id INTEGER PRIMARY KEY, -- the message's
    edit_of INTEGER NOT NULL, -- 0: not an edit
    edit_seq INTEGER NOT NULL -- 0: not edited since version 4
) STRICT;

-- The message that was posted with each request_id.
CREATE TABLE request (
    thread_id INTEGER NOT NULL,
    sender TEXT NOT NULL,
    request_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    post_hash BLOB, -- of what was posted: post_hash.py
    PRIMARY KEY (thread_id, sender, request_id)
) STRICT, WITHOUT ROWID;

-- Agents that joined, posted, or were mentioned or handed to, with their positions.
CREATE TABLE participant (
    thread_id INTEGER NOT NULL,
    agent TEXT NOT NULL,
    read_seq INTEGER NOT NULL,
    join_time INTEGER NOT NULL,
    delivered_seq INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (thread_id, agent)
) STRICT, WITHOUT ROWID;
CREATE INDEX participant_agent ON participant (agent, thread_id);

-- body is the serialised threadbus.v1.Agent without its presence and the fields that have columns.
CREATE TABLE agent (
    name TEXT PRIMARY KEY,
    kind INTEGER NOT NULL,
    unregister_time INTEGER NOT NULL, -- 0: registered
    body BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- The presence of each agent that was ever seen, as of the last checkpoint.
CREATE TABLE presence (
    agent TEXT PRIMARY KEY,
    state INTEGER NOT NULL, -- threadbus.v1.Presence
    status_text TEXT NOT NULL,
    last_seen_time INTEGER NOT NULL,
    lease_end_time INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Tokens by their SHA-256. An empty agent is the operator.
CREATE TABLE token (
    hash BLOB PRIMARY KEY,
    agent TEXT NOT NULL,
    create_time INTEGER NOT NULL,
    expire_time INTEGER NOT NULL DEFAULT 0 -- 0: never
) STRICT, WITHOUT ROWID;

-- Deleted threads whose messages have not yet been purged.
CREATE TABLE purge (thread_id INTEGER PRIMARY KEY) STRICT;
