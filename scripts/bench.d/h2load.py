"""Unary load with h2load, which is faster than any server here: the server is then the limit.

ghz takes more CPU time for a call than a bare gRPC server, so that a server which is half as fast
looks almost equal. h2load repeats one request, and does not look at the gRPC status of a response:
count what was stored afterwards.
"""

import re
import struct
import subprocess
from pathlib import Path

import machine
import processes
from ghz import Load
from servers import Server

#: Connections over which the calls in flight are spread.
CONNECTIONS = 4


def calls(
    h2load: Path,
    server: Server,
    *,
    folder: Path,
    method: str,
    request: bytes,
    count: int,
    in_flight: int,
) -> Load:
    """Make `count` calls of a method, for example `threadbus.v1.BusService/PostMessage`."""
    body, log = folder / "request.bin", folder / "h2load.tsv"
    body.write_bytes(b"\0" + struct.pack(">I", len(request)) + request)
    log.unlink(missing_ok=True)
    connections = min(CONNECTIONS, in_flight)
    command = [str(h2load), "--requests", str(count), "--clients", str(connections)]
    command += ["--max-concurrent-streams", str(in_flight // connections), "--threads", "1"]
    command += ["--data", str(body), "--log-file", str(log)]
    command += ["--header", "te: trailers", "--header", "content-type: application/grpc"]
    command.append(f"http://{server.address}/{method}")
    cpu = server.cpu_seconds()
    with machine.on_cores(machine.CLIENT_CORES):
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=processes.LONGEST, check=True
        )
    cpu = server.cpu_seconds() - cpu
    finished = re.search(r"^finished in .*, ([\d.]+) req/s", done.stdout, re.MULTILINE)
    if finished is None:
        raise RuntimeError(f"h2load: {done.stdout[-500:]}")
    rows = [line.split("\t") for line in log.read_text("ascii").splitlines()]
    answered = [int(taken) / 1e6 for _, status, taken, *_ in rows if status == "200"]
    return Load(
        calls=count,
        failed=["h2load got no response"] * (count - len(answered)),
        seconds=len(answered) / float(finished[1]) if float(finished[1]) else 1.0,
        latencies=answered,
        server_cpu_seconds=cpu,
    )
