-- From version 4 to 5: which agents send heartbeats. Servers of version 4 do not record it.
ALTER TABLE presence ADD COLUMN sends_heartbeats boolean NOT NULL DEFAULT false;
UPDATE meta SET version = 5;
