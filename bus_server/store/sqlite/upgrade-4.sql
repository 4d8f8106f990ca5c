-- From schema version 3 to 4: the fields that posts are checked against have columns.
CREATE TABLE entry (
    id INTEGER PRIMARY KEY,
    edit_of INTEGER NOT NULL,
    edit_seq INTEGER NOT NULL
) STRICT;
ALTER TABLE request ADD COLUMN body_hash BLOB;
