-- The embedded store. Times are integers, in microseconds since the Unix epoch. Those of presence,
-- and token.expire_time, are on the store's own clock (clock.py), which is never adjusted. Those of
-- thread and message are order times (order.py), which do not decrease.

-- The identity of this file; one row.
CREATE TABLE store (epoch TEXT NOT NULL) STRICT;

-- How far the store's clock is ahead of the system's monotonic clock; one row.
CREATE TABLE clock (
    boot TEXT NOT NULL, -- id of the machine's boot; after another boot there is a new base
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
    active_time INTEGER NOT NULL, -- of the last activity, within a second: activity.py
    body BLOB NOT NULL
) STRICT;
CREATE INDEX thread_active ON thread (state, active_time);
-- Finds names that differ only by case.
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

-- The fields of a message that edits check and change. A large message has a row from the start, a
-- small one from its first edit. While there is no row, the body has these fields.
CREATE TABLE entry (
    id INTEGER PRIMARY KEY, -- message.id
    edit_of INTEGER NOT NULL, -- 0: not an edit
    edit_seq INTEGER NOT NULL -- 0: not edited. Before schema version 4, it was in the body
) STRICT;

-- The message that was posted with each request_id, and a hash of the post (post_hash.py).
CREATE TABLE request (
    thread_id INTEGER NOT NULL,
    sender TEXT NOT NULL,
    request_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    post_hash BLOB,
    PRIMARY KEY (thread_id, sender, request_id)
) STRICT, WITHOUT ROWID;

-- The agents that entries address: by a mention, a handoff, or a reply to a message of theirs. An
-- entry does not address its sender.
CREATE TABLE addressed (
    thread_id INTEGER NOT NULL,
    agent TEXT NOT NULL,
    wakes INTEGER NOT NULL, -- whether the entry wakes the agent: 0 or 1
    seq INTEGER NOT NULL,
    PRIMARY KEY (thread_id, agent, wakes, seq)
) STRICT, WITHOUT ROWID;

-- The entries that do not wake everybody. The number of them between two seqs of a thread is the
-- difference of two numbers.
CREATE TABLE quiet (
    thread_id INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    number INTEGER NOT NULL, -- 1, 2, 3 … within the thread
    wakes INTEGER NOT NULL, -- threadbus.v1.Wake
    PRIMARY KEY (thread_id, seq)
) STRICT, WITHOUT ROWID;

-- Requests: messages that ask agents for a reply, one row for each agent asked.
CREATE TABLE asked (
    thread_id INTEGER NOT NULL,
    seq INTEGER NOT NULL, -- of the message
    agent TEXT NOT NULL,
    asker TEXT NOT NULL,
    state INTEGER NOT NULL, -- threadbus.v1.RequestState
    create_time INTEGER NOT NULL,
    open_time INTEGER NOT NULL, -- the same moment, on the store's own clock
    due INTEGER NOT NULL, -- when it becomes overdue, on the store's own clock; 0: never
    reply_seq INTEGER NOT NULL, -- of the entry that answered it; 0: none
    noticed INTEGER NOT NULL, -- the reasons of its notices, as bits
    PRIMARY KEY (thread_id, seq, agent)
) STRICT, WITHOUT ROWID;
CREATE INDEX asked_open ON asked (agent, thread_id, seq) WHERE state = 1;
CREATE INDEX asked_agent ON asked (agent, state, open_time, thread_id, seq);
CREATE INDEX asked_asker ON asked (asker, state, open_time, thread_id, seq, agent);
CREATE INDEX asked_state ON asked (state, open_time, thread_id, seq, agent);

-- Agents that joined, posted, or were mentioned or handed off to, with their positions.
CREATE TABLE participant (
    thread_id INTEGER NOT NULL,
    agent TEXT NOT NULL,
    read_seq INTEGER NOT NULL, -- -1: it was only mentioned or handed off to, and has read nothing
    join_time INTEGER NOT NULL,
    delivered_seq INTEGER NOT NULL DEFAULT 0,
    passed_over INTEGER NOT NULL DEFAULT 0,
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

-- The presence of agents, as of the last checkpoint.
CREATE TABLE presence (
    agent TEXT PRIMARY KEY,
    status_text TEXT NOT NULL,
    last_seen_time INTEGER NOT NULL, -- these and the following: see PresenceRow in commands.py
    lease_end_time INTEGER NOT NULL,
    state_time INTEGER NOT NULL DEFAULT 0,
    reported INTEGER NOT NULL DEFAULT 0,
    work_time INTEGER NOT NULL DEFAULT 0,
    working_end_time INTEGER NOT NULL DEFAULT 0,
    sends_heartbeats INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

-- Tokens, by their SHA-256. An operator's has an empty agent. A rotation keeps the id. scopes and
-- prefixes are words between spaces. A token that was rotated has another expire_time than end_time.
CREATE TABLE token (
    hash BLOB PRIMARY KEY,
    agent TEXT NOT NULL,
    create_time INTEGER NOT NULL,
    expire_time INTEGER NOT NULL, -- 0: never
    id TEXT NOT NULL,
    scopes TEXT NOT NULL,
    prefixes TEXT NOT NULL, -- of threads; empty: all threads
    end_time INTEGER NOT NULL, -- the end of its lifetime; 0: it has none
    last_use_time INTEGER NOT NULL DEFAULT 0 -- 0: it was not used
) STRICT, WITHOUT ROWID;
CREATE INDEX token_agent ON token (agent, create_time, id);
CREATE INDEX token_id ON token (id);
CREATE INDEX token_time ON token (create_time, id);

-- Deleted threads that still have rows in other tables.
CREATE TABLE purge (thread_id INTEGER PRIMARY KEY) STRICT;

-- The servers on the store. One that stops deletes its row.
CREATE TABLE server (
    name TEXT PRIMARY KEY,
    renew_time INTEGER NOT NULL, -- when it last renewed its lease; increases each time
    lease INTEGER NOT NULL -- in microseconds
) STRICT, WITHOUT ROWID;

-- The open waits of servers, as of their last checkpoints. A server that is alone has none here.
CREATE TABLE wait (
    server TEXT NOT NULL,
    number INTEGER NOT NULL,
    body BLOB NOT NULL, -- a serialised threadbus.v1.Wait, as of when it was written
    PRIMARY KEY (server, number)
) STRICT, WITHOUT ROWID;
