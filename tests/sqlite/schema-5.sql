-- The embedded store. Times are integers, microseconds since the epoch; those of presence and
-- token.expire_time are on the store's own clock (clock.py), which nobody sets; those of thread and
-- message are order times (order.py), which hold how often the wall clock went back before.

-- Who made this file; one row.
CREATE TABLE store (epoch TEXT NOT NULL) STRICT;

-- What the store's clock is ahead of the system's monotonic clock; one row.
CREATE TABLE clock (
    boot TEXT NOT NULL, -- of the machine; with another one the base is chosen anew
    base INTEGER NOT NULL
) STRICT;

-- Ids are never used again: what a deleted thread left behind can be cleared later.
CREATE TABLE thread (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    epoch TEXT NOT NULL,
    state INTEGER NOT NULL,
    topic TEXT NOT NULL,
    labels TEXT NOT NULL, -- a JSON object
    creator TEXT NOT NULL,
    create_time INTEGER NOT NULL,
    stage TEXT NOT NULL DEFAULT '',
    sync_mode INTEGER NOT NULL DEFAULT 1,
    active_time INTEGER NOT NULL DEFAULT 0 -- when it was last active, to the second: activity.py
) STRICT;
CREATE INDEX thread_active ON thread (state, active_time);
-- Names that differ only by case.
CREATE INDEX thread_name_nocase ON thread (name COLLATE NOCASE);

-- id = thread.id << 32 | seq, so that a thread's log is one run of one B-tree, its head is the
-- newest id of the run, and a commit of one message touches one page.
-- body is the serialised threadbus.v1.Message, whole but for what came later; what posts are decided
-- by stands beside it because bodies can be large.
CREATE TABLE message (
    id INTEGER PRIMARY KEY,
    time INTEGER NOT NULL,
    sender TEXT NOT NULL,
    body BLOB NOT NULL
) STRICT;

-- What an edit asks of a message, and what it changes: known of large messages and edits from the
-- start, of others since they were edited. Of the rest the body tells.
CREATE TABLE entry (
    id INTEGER PRIMARY KEY, -- the message's
    edit_of INTEGER NOT NULL, -- 0: it is no edit
    edit_seq INTEGER NOT NULL -- 0: it was not edited since version 4
) STRICT;

-- Which post a request_id made.
CREATE TABLE request (
    thread_id INTEGER NOT NULL,
    sender TEXT NOT NULL,
    request_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    body_hash BLOB, -- NULL: from before version 4
    PRIMARY KEY (thread_id, sender, request_id)
) STRICT, WITHOUT ROWID;

-- Who joined, posted, or was mentioned or handed to; what each was handed, and how far it has read.
CREATE TABLE participant (
    thread_id INTEGER NOT NULL,
    agent TEXT NOT NULL,
    read_seq INTEGER NOT NULL,
    join_time INTEGER NOT NULL,
    delivered_seq INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (thread_id, agent)
) STRICT, WITHOUT ROWID;
CREATE INDEX participant_agent ON participant (agent, thread_id);

CREATE TABLE agent (
    name TEXT PRIMARY KEY,
    kind INTEGER NOT NULL,
    display_name TEXT NOT NULL,
    description TEXT NOT NULL,
    labels TEXT NOT NULL, -- a JSON object
    create_time INTEGER NOT NULL,
    unregister_time INTEGER NOT NULL DEFAULT 0 -- 0: it is registered
) STRICT, WITHOUT ROWID;

-- What was last known of each agent that was ever seen, as of the last checkpoint.
CREATE TABLE presence (
    agent TEXT PRIMARY KEY,
    state INTEGER NOT NULL, -- threadbus.v1.Presence
    status_text TEXT NOT NULL,
    last_seen_time INTEGER NOT NULL,
    lease_end_time INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- SHA-256 of each token and whose it is. An empty agent is an operator.
CREATE TABLE token (
    hash BLOB PRIMARY KEY,
    agent TEXT NOT NULL,
    create_time INTEGER NOT NULL,
    expire_time INTEGER NOT NULL DEFAULT 0 -- 0: never
) STRICT, WITHOUT ROWID;

-- Threads deleted whose messages are still to be cleared.
CREATE TABLE purge (thread_id INTEGER PRIMARY KEY) STRICT;
