"""docs/ghz.md: each example runs as it stands, and no call of it fails."""

import json
import re
from pathlib import Path

import pytest

from bus_client.sync import BusClient
from tests.conftest import StartServer
from tests.programs import program
from tests.shell import Shell

PAGE = (Path(__file__).parent.parent / "docs/ghz.md").read_text("utf-8")
SCRIPTS = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def adapted(script: str, address: str, token: str) -> str:
    """Returns an example with this server's address and token, fewer calls and shorter waits."""
    script = re.sub(r"-n \d+", "-n 20 -O json", re.sub(r"-c \d+", "-c 10", script))
    script = script.replace('"max_wait":"10s"', '"max_wait":"0.2s"')
    return script.replace("127.0.0.1:7420", address).replace("TOKEN", token)


@pytest.mark.slow
def test_every_call_of_every_example_succeeds(start_server: StartServer, tmp_path: Path) -> None:
    ghz = program("ghz")
    server = start_server()
    shell = Shell(server.address, tmp_path)
    shell.ok("post", "load", "the thread to post to")
    shell.ok("post", "crowd", "an older one, so that the head is not 1")
    token = shell.ok("register", "load-agent", "--show-token", "--json").json["token"]
    assert len(SCRIPTS) == 5
    for script in SCRIPTS:
        printed = shell.script(
            f'ghz() {{ {ghz} "$@"; }}\n' + adapted(script, server.address, token)
        )
        report = json.loads(printed)
        assert report["statusCodeDistribution"] == {"OK": 20}, script
        if "min_messages" in script:
            assert report["fastest"] > 0.1e9, "it waits, and does not replay"
    with BusClient(server.address, agent="reader", credentials=tmp_path / "reader.json") as bus:
        assert bus.get_thread("load").head_seq == 1 + 20 + 20 * 3
