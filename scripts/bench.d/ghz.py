"""Unary load with ghz, or with a Python client if ghz is not installed."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import machine
import processes
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from numbering import content
from servers import Server

_PROTOS = Path(__file__).parents[2] / "protos/threadbus/v1/descriptor_set.binpb"


@dataclass(frozen=True, slots=True)
class Load:
    """The results of a load test."""

    calls: int
    failed: list[str]
    seconds: float
    latencies: list[float]
    """Seconds, for each call that succeeded."""
    server_cpu_seconds: float

    @property
    def per_second(self) -> float:
        """Successful calls per second."""
        return (self.calls - len(self.failed)) / self.seconds

    @property
    def cpu_microseconds(self) -> float:
        """The server's CPU time per call."""
        return self.server_cpu_seconds / self.calls * 1e6


def post(
    ghz: Path | None,
    server: Server,
    *,
    folder: Path,
    threads: Sequence[str],
    sizes: Sequence[int],
    count: int,
    concurrency: int,
) -> Load:
    """Post to these threads with contents of these sizes, round-robin."""
    if ghz is None:
        return _without_ghz(
            server, count, concurrency, dict(thread=threads[0], size=sizes[0], empty=False)
        )
    # Enough distinct requests to include every thread and every size.
    variety = max(len(threads), len(sizes))
    posts = [
        {
            "thread": threads[number % len(threads)],
            "content": content(number, sizes[number % len(sizes)]),
        }
        for number in range(variety)
    ]
    call = "threadbus.v1.BusService.PostMessage"
    return _with_ghz(ghz, server, folder, _PROTOS, call, posts, count, concurrency)


def listing(
    ghz: Path, server: Server, *, folder: Path, method: str, requests: Sequence[object], count: int
) -> Load:
    """Read pages one after the other. `method`: for example `ThreadService.ListThreads`."""
    call = f"threadbus.v1.{method}"
    return _with_ghz(ghz, server, folder, _PROTOS, call, requests, count, concurrency=1)


def empty(ghz: Path | None, server: Server, *, folder: Path, count: int, concurrency: int) -> Load:
    """Make empty calls to the floor."""
    if ghz is None:
        return _without_ghz(server, count, concurrency, dict(empty=True))
    protos = folder / "floor.binpb"
    protos.write_bytes(_floor_protos().SerializeToString())
    return _with_ghz(ghz, server, folder, protos, "floor.Floor.Empty", [{}], count, concurrency)


def _with_ghz(
    ghz: Path,
    server: Server,
    folder: Path,
    protos: Path,
    call: str,
    requests: Sequence[object],
    count: int,
    concurrency: int,
) -> Load:
    data = folder / "requests.json"
    data.write_text(json.dumps(requests), "utf-8")
    command = [str(ghz), "--insecure", "--protoset", str(protos), "--call", call]
    command += ["--data-file", str(data), "--disable-template-functions"]
    command += ["--disable-template-data", "--total", str(count), "--timeout", "30s"]
    command += ["--concurrency", str(min(concurrency, count)), "--format", "json"]
    command += ["--cpus", str(len(machine.CLIENT_CORES)), server.address]
    cpu = server.cpu_seconds()
    with machine.on_cores(machine.CLIENT_CORES):
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=processes.LONGEST, check=True
        )
    cpu = server.cpu_seconds() - cpu
    report = json.loads(done.stdout)
    details = report["details"]
    return Load(
        calls=report["count"],
        failed=[call["error"] for call in details if call["status"] != "OK"],
        seconds=report["total"] / 1e9,
        latencies=[call["latency"] / 1e9 for call in details if call["status"] == "OK"],
        server_cpu_seconds=cpu,
    )


def _without_ghz(server: Server, count: int, concurrency: int, what: dict[str, object]) -> Load:
    cpu = server.cpu_seconds()
    found = processes.run(
        "client_posts.py",
        do="unary",
        address=server.address,
        count=count,
        concurrency=concurrency,
        **what,
    )
    return Load(
        calls=count,
        failed=found["failed"],
        seconds=found["seconds"],
        latencies=found["taken"],
        server_cpu_seconds=server.cpu_seconds() - cpu,
    )


def _floor_protos() -> FileDescriptorSet:
    protos = FileDescriptorSet()
    file = protos.file.add(name="floor.proto", package="floor", syntax="proto3")
    file.message_type.add(name="Nothing")
    service = file.service.add(name="Floor")
    service.method.add(name="Empty", input_type=".floor.Nothing", output_type=".floor.Nothing")
    return protos
