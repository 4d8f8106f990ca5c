"""How a server is set up: what makes no sense is refused; and the start told to programs."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.connections import connected
from tests.refused_start import contents
from tests.serving import ServerProcess
from threadbus.v1.bus_service_pb2 import GetServerInfoRequest

NONSENSE = [
    ("--max-queued-posts", "0"),
    ("--max-queued-posts", "many"),
    ("--max-queued-bytes", "-1"),
    ("--max-open-waits", "0"),
    ("--max-content-bytes", "0"),
    ("--max-content-bytes", "99999999999"),
    ("--fallback-interval", "nan"),
    ("--fallback-interval", "inf"),
    ("--fallback-interval", "-1"),
    ("--busy-timeout", "-0.1"),
    ("--checkpoint-interval", "0"),
    ("--drain-timeout", "0"),
    ("--drain-timeout", "100000"),
    ("--keepalive-time", "0"),
    ("--keepalive-timeout", "nan"),
    ("--auth", "maybe"),
    ("--durability", "some"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("flag", "value"), NONSENSE)
def test_a_setting_that_makes_no_sense_is_refused_by_name(
    tmp_path: Path, flag: str, value: str
) -> None:
    flags = ["--listen", "127.0.0.1:0", "--db", str(tmp_path / "bus.db"), flag, value]
    done = subprocess.run(
        [sys.executable, "-m", "bus_server", *flags],
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert f"'{flag}'" in done.stderr
    assert value in done.stderr
    assert "Traceback" not in done.stderr
    assert contents(tmp_path) == {}


@pytest.mark.slow
@pytest.mark.parametrize("flags", [[], ["--auth", "required", "--durability", "fast"]])
async def test_the_start_can_be_announced_as_one_json_object(
    tmp_path: Path, flags: list[str]
) -> None:
    server = ServerProcess(tmp_path / "bus.db", "--json", *flags)
    server.process = server.spawn()
    try:
        assert server.process.stdout is not None
        told = json.loads(server.process.stdout.readline())
        assert told.pop("listen").startswith("127.0.0.1:")
        assert told == {
            "db": str(server.db),
            "durability": "fast" if flags else "full",
            "auth": "required" if flags else "open",
        }
        server.signal(signal.SIGTERM)
        assert server.process.stdout.read() == ""
    finally:
        server.kill()


@pytest.mark.slow
async def test_a_server_answers_where_its_json_says(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "bus.db", "--json")
    server.process = server.spawn()
    try:
        assert server.process.stdout is not None
        told = json.loads(server.process.stdout.readline())
        async with connected(told["listen"]) as client:
            info = await client.bus.GetServerInfo(GetServerInfoRequest(), timeout=10)
        assert info.auth == told["auth"]
    finally:
        server.kill()
