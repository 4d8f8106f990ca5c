"""Models for the programs of docs/frameworks.md, each by its framework's own interface.

They run in the environments that `scripts/tools` makes, with the program. No code of a framework
can reach the network there: gRPC, which does not use Python's sockets, connects to the server.
"""

import sys


def _refuse(event: str, _: object) -> None:
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        raise ConnectionRefusedError(f"{event} is not for tests")


sys.addaudithook(_refuse)
