-- From version 5 to 6: threads lose their oldest entries. Servers of version 5 would take what
-- remains of a thread for its beginning.
ALTER TABLE thread ADD COLUMN first_seq bigint NOT NULL DEFAULT 1;
ALTER TABLE thread ADD COLUMN retained boolean NOT NULL DEFAULT false;
CREATE INDEX thread_retained ON thread (id) WHERE retained;
UPDATE meta SET version = 6, compatible = 6;
