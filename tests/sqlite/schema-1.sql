-- The embedded store. Times are integers, microseconds since the epoch.

-- Who made this file; one row.
CREATE TABLE store (epoch TEXT NOT NULL) STRICT;

-- Ids are never used again: what a deleted thread left behind can be cleared later.
CREATE TABLE thread (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    epoch TEXT NOT NULL,
    state INTEGER NOT NULL,
    topic TEXT NOT NULL,
    labels TEXT NOT NULL, -- a JSON object
    creator TEXT NOT NULL,
    create_time INTEGER NOT NULL
) STRICT;

-- id = thread.id << 32 | seq, so that a thread's log is one run of one B-tree, its head is the
-- newest id of the run, and a commit of one message touches one page.
-- body is the serialised threadbus.v1.Message, whole; time and sender stand beside it because bodies
-- can be large.
CREATE TABLE message (
    id INTEGER PRIMARY KEY,
    time INTEGER NOT NULL,
    sender TEXT NOT NULL,
    body BLOB NOT NULL
) STRICT;

-- Which post a request_id made.
CREATE TABLE request (
    thread_id INTEGER NOT NULL,
    sender TEXT NOT NULL,
    request_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (thread_id, sender, request_id)
) STRICT, WITHOUT ROWID;

-- Who joined, posted, or was mentioned or handed to, and how far each has read.
CREATE TABLE participant (
    thread_id INTEGER NOT NULL,
    agent TEXT NOT NULL,
    read_seq INTEGER NOT NULL,
    join_time INTEGER NOT NULL,
    PRIMARY KEY (thread_id, agent)
) STRICT, WITHOUT ROWID;

CREATE TABLE agent (
    name TEXT PRIMARY KEY,
    kind INTEGER NOT NULL,
    display_name TEXT NOT NULL,
    description TEXT NOT NULL,
    labels TEXT NOT NULL, -- a JSON object
    create_time INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- SHA-256 of each token and whose it is. An empty agent is an operator.
CREATE TABLE token (
    hash BLOB PRIMARY KEY,
    agent TEXT NOT NULL,
    create_time INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Threads deleted whose messages are still to be cleared.
CREATE TABLE purge (thread_id INTEGER PRIMARY KEY) STRICT;
