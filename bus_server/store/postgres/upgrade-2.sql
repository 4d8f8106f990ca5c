-- From version 1 to 2: what tokens permit, and when they were created and last used.
ALTER TABLE token
    ADD COLUMN create_time bigint NOT NULL DEFAULT 0,
    ADD COLUMN id text COLLATE "C" NOT NULL DEFAULT '',
    ADD COLUMN scopes text NOT NULL DEFAULT 'post read',
    ADD COLUMN prefixes text NOT NULL DEFAULT '',
    ADD COLUMN end_time bigint NOT NULL DEFAULT 0,
    ADD COLUMN last_use_time bigint NOT NULL DEFAULT 0;
-- Those that an agent's token has replaced get its id.
UPDATE token SET create_time = (extract(epoch FROM now()) * 1000000)::bigint,
    id = left(encode(CASE agent WHEN '' THEN hash ELSE (
        SELECT n.hash FROM token AS n WHERE n.agent = token.agent ORDER BY n.expire_time > 0 LIMIT 1
    ) END, 'hex'), 16),
    scopes = CASE agent WHEN '' THEN 'post read admin' ELSE 'post read' END;
ALTER TABLE token
    ALTER COLUMN create_time DROP DEFAULT,
    ALTER COLUMN id DROP DEFAULT,
    ALTER COLUMN scopes DROP DEFAULT,
    ALTER COLUMN prefixes DROP DEFAULT,
    ALTER COLUMN end_time DROP DEFAULT;
DROP INDEX token_agent;
CREATE INDEX token_agent ON token (agent, create_time, id);
CREATE INDEX token_id ON token (id);
CREATE INDEX token_time ON token (create_time, id);
UPDATE meta SET version = 2, compatible = 2;
