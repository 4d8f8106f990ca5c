-- From schema version 11 to 12: threads lose their oldest entries.
ALTER TABLE thread ADD COLUMN first_seq INTEGER NOT NULL DEFAULT 1;
ALTER TABLE thread ADD COLUMN retained INTEGER NOT NULL DEFAULT 0;
CREATE INDEX thread_retained ON thread (id) WHERE retained = 1;
