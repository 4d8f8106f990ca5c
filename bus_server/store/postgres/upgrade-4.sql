-- From version 3 to 4: requests (none so far). Servers of version 3 open and answer none.
CREATE TABLE asked (
    thread_id bigint NOT NULL,
    seq bigint NOT NULL,
    agent text COLLATE "C" NOT NULL,
    asker text COLLATE "C" NOT NULL,
    state integer NOT NULL,
    create_time bigint NOT NULL,
    open_time bigint NOT NULL,
    due bigint NOT NULL,
    reply_seq bigint NOT NULL,
    noticed integer NOT NULL,
    PRIMARY KEY (thread_id, seq, agent)
) WITH (fillfactor = 80);
CREATE INDEX asked_open ON asked (agent, thread_id, seq) WHERE state = 1;
CREATE INDEX asked_agent ON asked (agent, state, open_time, thread_id, seq);
CREATE INDEX asked_asker ON asked (asker, state, open_time, thread_id, seq, agent);
CREATE INDEX asked_state ON asked ((state + 0), open_time, thread_id, seq, agent);
UPDATE meta SET version = 4, compatible = 4;
