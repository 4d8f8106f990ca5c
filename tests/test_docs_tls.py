"""docs/tls.md: its examples run as they stand."""

import json
import re
import shlex
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.doc_examples import blocks, page
from tests.programs import program
from tests.serving import ServerProcess
from tests.shell import Shell

SCRIPTS = blocks(page("docs/tls.md"), "sh")
TRY, CLIENT, _, GRPCURL, GHZ = SCRIPTS


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell("127.0.0.1:1", tmp_path)


@pytest.fixture
def server(shell: Shell, tmp_path: Path, start_server: StartServer) -> ServerProcess:
    """The server of the first example."""
    certs, serve = TRY.splitlines()
    shell.script(f"cd {tmp_path}\n{certs}")
    flags = shlex.split(
        serve.removeprefix("threadbus serve ").replace("try-tls", f"{tmp_path}/try-tls")
    )
    return start_server(*flags)


def run(shell: Shell, server: ServerProcess, script: str, functions: str = "") -> str:
    """Run an example beside the files of the first one, with the server's port."""
    port = server.address.rpartition(":")[2]
    script = script.replace("localhost:7420", f"localhost:{port}")
    script = re.sub(r"tls://localhost\b", f"tls://localhost:{port}", script)
    return shell.script(f"cd {shell.home}\n{functions}{script}")


@pytest.mark.slow
def test_the_first_example_works(shell: Shell, server: ServerProcess) -> None:
    assert "hello over TLS" in run(shell, server, CLIENT)


@pytest.mark.slow
def test_grpcurl_and_ghz_work_over_tls(shell: Shell, server: ServerProcess) -> None:
    grpcurl, ghz = program("grpcurl"), program("ghz")
    run(shell, server, CLIENT)
    listed = run(shell, server, GRPCURL, f'grpcurl() {{ {grpcurl} "$@"; }}\n')
    assert "threadbus.v1.BusService" in listed.splitlines()
    report = run(shell, server, GHZ.replace("-c 4", "-O json -c 4"), f'ghz() {{ {ghz} "$@"; }}\n')
    assert json.loads(report)["statusCodeDistribution"] == {"OK": 100}
