"""Free ports that no connection can take: servers keep theirs from a kill to the restart."""

import itertools
import os
import secrets
import socket
from collections.abc import Iterator

__all__ = ["free_port"]

#: Below where Linux starts to give ports to outgoing connections (32768). Each worker of a test run
#: has its own part, and runs side by side begin at different places.
_FIRST, _PER_WORKER, _WORKERS = 10_000, 2_000, 10


def _candidates() -> Iterator[int]:
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _WORKERS
    ports = [_FIRST + worker * _PER_WORKER + offset for offset in range(_PER_WORKER)]
    start = secrets.randbelow(_PER_WORKER)
    return itertools.cycle(ports[start:] + ports[:start])


_ports = _candidates()


def free_port() -> int:
    """Returns a port of 127.0.0.1 that nothing is bound to, another one at each call."""
    for port in itertools.islice(_ports, _PER_WORKER):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("no port is free")
