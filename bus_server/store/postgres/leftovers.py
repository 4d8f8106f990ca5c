"""Deletes the rows of deleted threads in small steps, so that posts do not wait for long."""

from bus_server.store.postgres.connection import Statement

#: Maximum rows that PURGE deletes from a table, and bytes of messages after which it stops: a few
#: milliseconds of work.
PURGE_ROWS = 500
PURGE_BYTES = 1024 * 1024

#: Deletes some rows of a deleted thread, unless there is none or others delete them all. The thread
#: is forgotten once nothing is left.
PURGE: Statement = (
    """
    WITH chosen AS MATERIALIZED (
        SELECT thread_id FROM purge ORDER BY thread_id LIMIT 1 FOR UPDATE SKIP LOCKED
    ), message AS (
        DELETE FROM message USING chosen WHERE message.thread_id = chosen.thread_id AND seq <= (
            SELECT max(seq) FROM (
                SELECT seq, row_number() OVER w AS place, sum(octet_length(body)) OVER w AS size
                FROM message WHERE thread_id = (SELECT thread_id FROM chosen)
                WINDOW w AS (ORDER BY seq) ORDER BY seq LIMIT %(rows)s
            ) AS m WHERE place = 1 OR size <= %(bytes)s
        ) RETURNING 1
    ), entry AS (
        DELETE FROM entry WHERE (thread_id, seq) IN (
            SELECT thread_id, seq FROM entry
            WHERE thread_id = (SELECT thread_id FROM chosen) LIMIT %(rows)s
        ) RETURNING 1
    ), request AS (
        DELETE FROM request WHERE (thread_id, sender, request_id) IN (
            SELECT thread_id, sender, request_id FROM request
            WHERE thread_id = (SELECT thread_id FROM chosen) LIMIT %(rows)s
        ) RETURNING 1
    ), addressed AS (
        DELETE FROM addressed WHERE (thread_id, agent, wakes, seq) IN (
            SELECT thread_id, agent, wakes, seq FROM addressed
            WHERE thread_id = (SELECT thread_id FROM chosen) LIMIT %(rows)s
        ) RETURNING 1
    ), quiet AS (
        DELETE FROM quiet WHERE (thread_id, seq) IN (
            SELECT thread_id, seq FROM quiet
            WHERE thread_id = (SELECT thread_id FROM chosen) LIMIT %(rows)s
        ) RETURNING 1
    ), asked AS (
        DELETE FROM asked WHERE (thread_id, seq, agent) IN (
            SELECT thread_id, seq, agent FROM asked
            WHERE thread_id = (SELECT thread_id FROM chosen) LIMIT %(rows)s
        ) RETURNING 1
    ), participant AS (
        DELETE FROM participant WHERE (thread_id, agent) IN (
            SELECT thread_id, agent FROM participant
            WHERE thread_id = (SELECT thread_id FROM chosen) LIMIT %(rows)s
        ) RETURNING 1
    )
    DELETE FROM purge USING chosen WHERE purge.thread_id = chosen.thread_id
    AND NOT EXISTS (SELECT 1 FROM message) AND NOT EXISTS (SELECT 1 FROM entry)
    AND NOT EXISTS (SELECT 1 FROM request) AND NOT EXISTS (SELECT 1 FROM addressed)
    AND NOT EXISTS (SELECT 1 FROM quiet) AND NOT EXISTS (SELECT 1 FROM asked)
    AND NOT EXISTS (SELECT 1 FROM participant)
    """,
    {"rows": PURGE_ROWS, "bytes": PURGE_BYTES},
)
