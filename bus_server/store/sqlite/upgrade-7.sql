-- From schema version 6 to 7: the servers on the store, their open waits, and the evidence that the
-- presence of an agent follows from.
ALTER TABLE presence ADD COLUMN state_time INTEGER NOT NULL DEFAULT 0;
ALTER TABLE presence ADD COLUMN reported INTEGER NOT NULL DEFAULT 0;
ALTER TABLE presence ADD COLUMN work_time INTEGER NOT NULL DEFAULT 0;
ALTER TABLE presence ADD COLUMN working_end_time INTEGER NOT NULL DEFAULT 0;
UPDATE presence SET reported = state, state_time = last_seen_time WHERE state IN (4, 6);
UPDATE presence SET working_end_time = lease_end_time, work_time = last_seen_time WHERE state = 2;
UPDATE presence SET lease_end_time = 0 WHERE state = 5;
ALTER TABLE presence DROP COLUMN state;
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
