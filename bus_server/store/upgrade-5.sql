-- From schema version 4 to 5: a clock that nobody sets.
CREATE TABLE clock (
    boot TEXT NOT NULL,
    base INTEGER NOT NULL
) STRICT;
