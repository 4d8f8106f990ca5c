-- From version 2 to 3: whom entries address (upgrade.py fills the table), which entries do not wake
-- everybody (none so far), and up to where an agent has read a thread through a filter. Servers of
-- version 2 write none of this.
CREATE TABLE addressed (
    thread_id bigint NOT NULL,
    agent text COLLATE "C" NOT NULL,
    wakes boolean NOT NULL,
    seq bigint NOT NULL,
    PRIMARY KEY (thread_id, agent, wakes, seq)
);
CREATE TABLE quiet (
    thread_id bigint NOT NULL,
    seq bigint NOT NULL,
    number bigint NOT NULL,
    wakes integer NOT NULL,
    PRIMARY KEY (thread_id, seq)
);
ALTER TABLE participant ADD COLUMN passed_over bigint NOT NULL DEFAULT 0;
UPDATE meta SET version = 3, compatible = 3;
