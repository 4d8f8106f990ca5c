"""The SQL that a server runs, from its log at `--log-level debug`."""

from tests.serving import ServerProcess


def statements(server: ServerProcess, end: int | None = None) -> list[str]:
    """Returns all SQL so far, in order: each statement in one line, with its numbers at the end.

    `end`: only that of so many lines of the log.
    """
    told = (line.partition(" sql: ") for line in server.log[:end])
    return [statement.strip() for _, marker, statement in told if marker]


def commits_tried(server: ServerProcess) -> int:
    """Returns how many write transactions it has begun."""
    return statements(server).count("BEGIN IMMEDIATE")
