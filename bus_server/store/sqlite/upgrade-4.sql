-- From schema version 3 to 4: what posts are decided by stands beside the bodies.
CREATE TABLE entry (
    id INTEGER PRIMARY KEY,
    edit_of INTEGER NOT NULL,
    edit_seq INTEGER NOT NULL
) STRICT;
ALTER TABLE request ADD COLUMN body_hash BLOB;
