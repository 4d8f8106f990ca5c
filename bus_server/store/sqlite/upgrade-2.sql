-- From schema version 1 to 2: presence, settings of threads, tokens that expire.
ALTER TABLE thread ADD COLUMN stage TEXT NOT NULL DEFAULT '';
ALTER TABLE thread ADD COLUMN sync_mode INTEGER NOT NULL DEFAULT 1;
ALTER TABLE participant ADD COLUMN delivered_seq INTEGER NOT NULL DEFAULT 0;
CREATE INDEX participant_agent ON participant (agent, thread_id);
ALTER TABLE agent ADD COLUMN unregister_time INTEGER NOT NULL DEFAULT 0;
ALTER TABLE token ADD COLUMN expire_time INTEGER NOT NULL DEFAULT 0;
CREATE TABLE presence (
    agent TEXT PRIMARY KEY,
    state INTEGER NOT NULL,
    status_text TEXT NOT NULL,
    last_seen_time INTEGER NOT NULL,
    lease_end_time INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
