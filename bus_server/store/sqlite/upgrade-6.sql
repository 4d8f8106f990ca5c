-- From schema version 5 to 6: threads and agents are stored as protos. The functions used here are
-- defined in upgrade.py. Ids of deleted threads must not be reused, so the sequence is kept. Times
-- in bodies are the wall clock's: the high bits of order times are removed.
ALTER TABLE thread RENAME TO thread_5;
CREATE TABLE thread (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    epoch TEXT NOT NULL,
    state INTEGER NOT NULL,
    sync_mode INTEGER NOT NULL,
    active_time INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;
INSERT INTO sqlite_sequence SELECT 'thread', seq FROM sqlite_sequence WHERE name = 'thread_5';
INSERT INTO thread
SELECT id, name, epoch, state, sync_mode, active_time,
    thread_body(topic, stage, labels, creator, create_time & 9007199254740991)
FROM thread_5;
DROP TABLE thread_5;
CREATE INDEX thread_active ON thread (state, active_time);
CREATE INDEX thread_name_nocase ON thread (name COLLATE NOCASE);
ALTER TABLE agent RENAME TO agent_5;
CREATE TABLE agent (
    name TEXT PRIMARY KEY,
    kind INTEGER NOT NULL,
    unregister_time INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO agent
SELECT name, kind, unregister_time, agent_body(display_name, description, labels, create_time)
FROM agent_5;
DROP TABLE agent_5;
-- What posts are checked against, for messages from before version 4. Later ones have it already.
ALTER TABLE request RENAME COLUMN body_hash TO post_hash;
UPDATE request
SET post_hash = (SELECT post_hash(body) FROM message WHERE id = thread_id << 32 | seq)
WHERE post_hash IS NULL;
INSERT OR IGNORE INTO entry SELECT id, edit_of(body), 0 FROM message WHERE length(body) > 16384;
