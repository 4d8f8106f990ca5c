-- The store on a PostgreSQL server, in the current schema. Times are in microseconds since the Unix
-- epoch, on the clock of the database's machine. Names are ordered and compared byte by byte. Texts
-- are bytea where callers choose them freely: type text cannot hold U+0000.

-- One row. A server can use the store if its own version is at least `compatible`.
CREATE TABLE meta (
    version integer NOT NULL,
    compatible integer NOT NULL,
    epoch text NOT NULL, -- the identity of the store
    place text NOT NULL, -- where it is: history.py
    history integer NOT NULL -- how often all threads got new epochs
);

-- One row for each PostgresStore that was opened, which it writes in each transaction: its commits
-- are numbered. So a lost answer to COMMIT can be looked up, and others see that it has committed.
CREATE TABLE writer (
    id bigint PRIMARY KEY, -- random: a sequence gives a number again after commits were lost
    batch bigint NOT NULL, -- the number of its newest commit
    seen_time bigint NOT NULL, -- of that commit, or of when the row was inserted
    confirmed boolean NOT NULL -- whether that commit was answered only when a standby had it
) WITH (fillfactor = 20);

-- The row is also the lock of a thread: who appends to it holds it. So the head is kept here, and
-- half of a page is kept free for new versions of its rows.
CREATE SEQUENCE thread_id;
CREATE TABLE thread (
    id bigint PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE,
    epoch text COLLATE "C" NOT NULL,
    state integer NOT NULL,
    sync_mode integer NOT NULL,
    last_seq bigint NOT NULL,
    last_time bigint NOT NULL, -- of the newest entry; of the creation while there is none
    active_time bigint NOT NULL, -- at most a second before last_time: activity.py
    body bytea NOT NULL -- the serialised threadbus.v1.Thread without the fields that have columns
) WITH (fillfactor = 50);
CREATE INDEX thread_active ON thread (state, active_time);
-- Finds names that differ only by case.
CREATE INDEX thread_lower_name ON thread (lower(name));

-- body is the serialised threadbus.v1.Message as it was appended. It is never compressed, so that
-- its size is known without reading it.
CREATE TABLE message (
    thread_id bigint NOT NULL,
    seq bigint NOT NULL,
    time bigint NOT NULL,
    sender text COLLATE "C" NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (thread_id, seq)
);
ALTER TABLE message ALTER COLUMN body SET STORAGE EXTERNAL;

-- The fields of a message that edits check and change. A large message has a row from the start, a
-- small one from its first edit. While there is no row, the body has these fields.
CREATE TABLE entry (
    thread_id bigint NOT NULL,
    seq bigint NOT NULL,
    edit_of bigint NOT NULL, -- 0: not an edit
    edit_seq bigint NOT NULL, -- 0: not edited
    PRIMARY KEY (thread_id, seq)
);

-- The message that was posted with each request_id, and a hash of the post (post_hash.py).
CREATE TABLE request (
    thread_id bigint NOT NULL,
    sender text COLLATE "C" NOT NULL,
    request_id text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,
    post_hash bytea NOT NULL,
    PRIMARY KEY (thread_id, sender, request_id)
);

-- The agents that entries address: by a mention, a handoff, or a reply to a message of theirs. An
-- entry does not address its sender.
CREATE TABLE addressed (
    thread_id bigint NOT NULL,
    agent text COLLATE "C" NOT NULL,
    wakes boolean NOT NULL, -- whether the entry wakes the agent
    seq bigint NOT NULL,
    PRIMARY KEY (thread_id, agent, wakes, seq)
);

-- The entries that do not wake everybody. The number of them between two seqs of a thread is the
-- difference of two numbers.
CREATE TABLE quiet (
    thread_id bigint NOT NULL,
    seq bigint NOT NULL,
    number bigint NOT NULL, -- 1, 2, 3 … within the thread
    wakes integer NOT NULL, -- threadbus.v1.Wake
    PRIMARY KEY (thread_id, seq)
);

-- Requests: messages that ask agents for a reply, one row for each agent asked.
CREATE TABLE asked (
    thread_id bigint NOT NULL,
    seq bigint NOT NULL, -- of the message
    agent text COLLATE "C" NOT NULL,
    asker text COLLATE "C" NOT NULL,
    state integer NOT NULL, -- threadbus.v1.RequestState
    create_time bigint NOT NULL,
    open_time bigint NOT NULL, -- the same moment, on the store's clock
    due bigint NOT NULL, -- when it becomes overdue, on the store's clock; 0: never
    reply_seq bigint NOT NULL, -- of the entry that answered it; 0: none
    noticed integer NOT NULL, -- the reasons of its notices, as bits
    PRIMARY KEY (thread_id, seq, agent)
) WITH (fillfactor = 80);
CREATE INDEX asked_open ON asked (agent, thread_id, seq) WHERE state = 1;
CREATE INDEX asked_agent ON asked (agent, state, open_time, thread_id, seq);
CREATE INDEX asked_asker ON asked (asker, state, open_time, thread_id, seq, agent);
-- An expression, so that only those queries use it that have no better index.
CREATE INDEX asked_state ON asked ((state + 0), open_time, thread_id, seq, agent);

-- Agents that joined, posted, or were mentioned or handed off to, with their positions.
CREATE TABLE participant (
    thread_id bigint NOT NULL,
    agent text COLLATE "C" NOT NULL,
    read_seq bigint NOT NULL, -- -1: it was only mentioned or handed off to, and has read nothing
    join_time bigint NOT NULL,
    delivered_seq bigint NOT NULL DEFAULT 0,
    passed_over bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (thread_id, agent)
) WITH (fillfactor = 80);
CREATE INDEX participant_agent ON participant (agent, thread_id);

-- body is the serialised threadbus.v1.Agent without its presence and the fields that have columns.
CREATE TABLE agent (
    name text COLLATE "C" PRIMARY KEY,
    kind integer NOT NULL,
    unregister_time bigint NOT NULL, -- 0: registered
    body bytea NOT NULL
);

-- The presence of agents, as of the last checkpoint.
CREATE TABLE presence (
    agent text COLLATE "C" PRIMARY KEY,
    status_text bytea, -- UTF-8; NULL: none was ever given
    last_seen_time bigint NOT NULL, -- these and the following: see PresenceRow in commands.py
    lease_end_time bigint NOT NULL,
    state_time bigint NOT NULL,
    reported integer NOT NULL,
    work_time bigint NOT NULL,
    working_end_time bigint NOT NULL,
    sends_heartbeats boolean NOT NULL DEFAULT false
) WITH (fillfactor = 50);

-- Tokens, by their SHA-256. An operator's has an empty agent. A rotation keeps the id. scopes and
-- prefixes are words between spaces. A token that was rotated has another expire_time than end_time.
CREATE TABLE token (
    hash bytea PRIMARY KEY,
    agent text COLLATE "C" NOT NULL,
    expire_time bigint NOT NULL, -- 0: never
    create_time bigint NOT NULL,
    id text COLLATE "C" NOT NULL,
    scopes text NOT NULL,
    prefixes text NOT NULL, -- of threads; empty: all threads
    end_time bigint NOT NULL, -- the end of its lifetime; 0: it has none
    last_use_time bigint NOT NULL DEFAULT 0 -- 0: it was not used
);
CREATE INDEX token_agent ON token (agent, create_time, id);
CREATE INDEX token_id ON token (id);
CREATE INDEX token_time ON token (create_time, id);

-- Deleted threads that still have rows in other tables.
CREATE TABLE purge (thread_id bigint PRIMARY KEY);

-- The servers on the store. One that stops deletes its row.
CREATE TABLE server (
    name text COLLATE "C" PRIMARY KEY,
    renew_time bigint NOT NULL, -- when it last renewed its lease; increases each time
    lease bigint NOT NULL -- in microseconds
) WITH (fillfactor = 20);

-- The open waits of servers, as of their last checkpoints. A server that is alone has none here.
CREATE TABLE wait (
    server text COLLATE "C" NOT NULL,
    number bigint NOT NULL,
    body bytea NOT NULL, -- a serialised threadbus.v1.Wait, as of when it was written
    PRIMARY KEY (server, number)
);
