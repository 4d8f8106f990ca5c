-- From schema version 2 to 3: threads are listed by an index.
ALTER TABLE thread ADD COLUMN active_time INTEGER NOT NULL DEFAULT 0;
UPDATE thread SET active_time = coalesce(
    (
        SELECT time FROM message
        WHERE message.id BETWEEN thread.id << 32 AND thread.id << 32 | 4294967295
        ORDER BY message.id DESC LIMIT 1
    ),
    create_time
);
CREATE INDEX thread_active ON thread (state, active_time);
