-- From schema version 4 to 5: a clock that is never adjusted, and an index to find names that
-- differ only by case.
CREATE TABLE clock (
    boot TEXT NOT NULL,
    base INTEGER NOT NULL
) STRICT;
CREATE INDEX thread_name_nocase ON thread (name COLLATE NOCASE);
