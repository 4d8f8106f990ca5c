"""deploy/threadbus.service: valid, hardened, and no stricter than what a server needs."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy import ROOT, tool
from tests.polling import until
from tests.ports import free_port
from tests.shell import Shell

UNIT = ROOT / "deploy/threadbus.service"
#: Of ten. systemd calls less than 2.0 "OK"; a service without any of its options has 9.6.
EXPOSURE = 1.5


def values(key: str) -> list[str]:
    """Returns the values of a key of [Service], in order."""
    return re.findall(rf"^{key}=(.*)$", UNIT.read_text(), re.MULTILINE)


def analyze(*arguments: str) -> str:
    """Run systemd-analyze, which has to succeed; returns what it prints."""
    command = [tool("systemd-analyze"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def calls_of(group: str) -> set[str]:
    """Returns the system calls of one of systemd's groups, with those of the groups in it."""
    lines = [line.strip() for line in analyze("syscall-filter", group).splitlines()[1:]]
    names = {line for line in lines if line and not line.startswith("#")}
    inner = {name for name in names if name.startswith("@")}
    return names - inner | {call for each in inner for call in calls_of(each)}


def permitted() -> set[str]:
    """Returns the system calls that SystemCallFilter leaves."""
    first, *more = values("SystemCallFilter")
    found = {call for group in first.split() for call in calls_of(group)}
    for line in more:
        assert line.startswith("~")
        found -= {call for group in line[1:].split() for call in calls_of(group)}
    return found


def test_systemd_takes_the_unit_and_calls_it_hardened(tmp_path: Path) -> None:
    # It looks whether the program is there.
    (start,) = values("ExecStart")
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace(start.split()[0], sys.executable))
    assert analyze("verify", "--man=no", str(unit)) == ""
    report = analyze("security", "--offline=true", f"--threshold={EXPOSURE * 10:g}", str(unit))
    assert "Overall exposure level" in report


@pytest.mark.slow
@pytest.mark.sqlite
async def test_a_server_needs_nothing_that_the_unit_forbids(tmp_path: Path) -> None:
    if (strace := shutil.which("strace")) is None:
        pytest.skip("there is no `strace` here")
    allowed = permitted()
    address = f"127.0.0.1:{free_port()}"
    config = tmp_path / "threadbus.toml"
    config.write_text(f'listen = "{address}"\n')
    _, *arguments = shlex.split(values("ExecStart")[0])
    at = arguments.index("/etc/threadbus/threadbus.toml")
    arguments[at] = str(config)
    trace, log = tmp_path / "trace", tmp_path / "log"
    with log.open("w") as errors:
        tracer = subprocess.Popen(
            [
                *(strace, "--follow-forks", "--quiet=all", f"--output={trace}", "--"),
                *(sys.executable, "-m", "bus_client.cli", *arguments),
            ],
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
    try:
        await until(lambda: "listening on" in log.read_text(), within=60)
        (pid,) = Path(f"/proc/{tracer.pid}/task/{tracer.pid}/children").read_text().split()
        shell = Shell(address, tmp_path)
        shell.ok("post", "design", "hello")
        assert "hello" in shell.ok("read", "design").out
        assert values("ExecReload") == ["/bin/kill -HUP $MAINPID"]
        config.write_text(f'listen = "{address}"\nposts-per-minute = 60\n')
        subprocess.run(["kill", "-HUP", pid], check=True)
        await until(lambda: "posts-per-minute" in log.read_text())
        subprocess.run(["kill", "-TERM", pid], check=True)
        assert tracer.wait(30) == 0, log.read_text()
    finally:
        tracer.send_signal(signal.SIGKILL)
        tracer.wait()
    lines = trace.read_text()
    used = set(re.findall(r"^\d+ +([a-z]\w+)\(", lines, re.MULTILINE))
    assert {"fdatasync", "accept4"} & used, "the trace is not one of a server"
    if os.geteuid() == 0:
        allowed.add("fchown")  # SQLite, as root only
    assert used <= allowed
    families = set(re.findall(r"\bsocket\((AF_\w+)", lines))
    # The resolver of the C library does without AF_NETLINK.
    assert families - {"AF_NETLINK"} <= set(values("RestrictAddressFamilies")[0].split())
    assert values("MemoryDenyWriteExecute") == ["true"]
    writable = re.findall(r"\b(?:mmap|mprotect)\(.*PROT_WRITE\|PROT_EXEC.*", lines)
    assert not writable + re.findall(r"\bmprotect\(.*PROT_EXEC.*", lines)
