-- From schema version 6 to 7: the servers on the store, and their open waits.
CREATE TABLE server (
    name TEXT PRIMARY KEY,
    renew_time INTEGER NOT NULL,
    lease INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE wait (
    server TEXT NOT NULL,
    number INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (server, number)
) STRICT, WITHOUT ROWID;
