-- From schema version 10 to 11: which agents send heartbeats.
ALTER TABLE presence ADD COLUMN sends_heartbeats INTEGER NOT NULL DEFAULT 0;
