-- From schema version 7 to 8: what tokens permit, and when they were last used.
-- Those that an agent's token has replaced get its id.
CREATE TABLE token_8 (
    hash BLOB PRIMARY KEY,
    agent TEXT NOT NULL,
    create_time INTEGER NOT NULL,
    expire_time INTEGER NOT NULL,
    id TEXT NOT NULL,
    scopes TEXT NOT NULL,
    prefixes TEXT NOT NULL,
    end_time INTEGER NOT NULL,
    last_use_time INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
INSERT INTO token_8 (hash, agent, create_time, expire_time, id, scopes, prefixes, end_time)
SELECT hash, agent, create_time, expire_time,
    lower(hex(substr(CASE agent WHEN '' THEN hash ELSE (
        SELECT n.hash FROM token AS n WHERE n.agent = token.agent ORDER BY n.expire_time > 0 LIMIT 1
    ) END, 1, 8))),
    CASE agent WHEN '' THEN 'post read admin' ELSE 'post read' END, '', 0
FROM token;
DROP TABLE token;
ALTER TABLE token_8 RENAME TO token;
CREATE INDEX token_agent ON token (agent, create_time, id);
CREATE INDEX token_id ON token (id);
CREATE INDEX token_time ON token (create_time, id);
