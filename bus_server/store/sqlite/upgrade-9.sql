-- From schema version 8 to 9: whom entries address, which do not wake everybody (none so far), and up
-- to where an agent has read a thread through a filter.
CREATE TABLE addressed (
    thread_id INTEGER NOT NULL,
    agent TEXT NOT NULL,
    wakes INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (thread_id, agent, wakes, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE quiet (
    thread_id INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    number INTEGER NOT NULL,
    wakes INTEGER NOT NULL,
    PRIMARY KEY (thread_id, seq)
) STRICT, WITHOUT ROWID;
INSERT OR IGNORE INTO addressed (thread_id, agent, wakes, seq)
SELECT thread_id, agent, 1, seq FROM (
    SELECT m.id >> 32 AS thread_id, m.id & 4294967295 AS seq, m.sender AS sender, CASE n.type
        WHEN 'integer' THEN (SELECT sender FROM message WHERE id = (m.id >> 32 << 32) | n.value)
        ELSE n.value END AS agent
    FROM message AS m JOIN json_each(addressed(m.body)) AS n
) WHERE agent NOT IN (sender, 'anonymous');
ALTER TABLE participant ADD COLUMN passed_over INTEGER NOT NULL DEFAULT 0;
