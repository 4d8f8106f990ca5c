"""What SQL a server runs, as `--log-level debug` tells."""

from tests.serving import ServerProcess


def statements(server: ServerProcess) -> list[str]:
    """All SQL so far, in order."""
    told = (line.partition(" sql: ") for line in server.log)
    return [statement.strip() for _, marker, statement in told if marker]


def commits_tried(server: ServerProcess) -> int:
    """How often it has begun to write."""
    return statements(server).count("BEGIN IMMEDIATE")
