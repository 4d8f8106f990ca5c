-- From schema version 9 to 10: requests (none so far).
CREATE TABLE asked (
    thread_id INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    agent TEXT NOT NULL,
    asker TEXT NOT NULL,
    state INTEGER NOT NULL,
    create_time INTEGER NOT NULL,
    open_time INTEGER NOT NULL,
    due INTEGER NOT NULL,
    reply_seq INTEGER NOT NULL,
    noticed INTEGER NOT NULL,
    PRIMARY KEY (thread_id, seq, agent)
) STRICT, WITHOUT ROWID;
CREATE INDEX asked_open ON asked (agent, thread_id, seq) WHERE state = 1;
CREATE INDEX asked_agent ON asked (agent, state, open_time, thread_id, seq);
CREATE INDEX asked_asker ON asked (asker, state, open_time, thread_id, seq, agent);
CREATE INDEX asked_state ON asked (state, open_time, thread_id, seq, agent);
