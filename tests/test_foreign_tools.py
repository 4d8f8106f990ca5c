"""Tools that know only the server's address."""

import json
import subprocess

import pytest

from tests.programs import program
from tests.serving import ServerProcess


def grpcurl(server: ServerProcess, *arguments: str, data: object = None) -> str:
    """Returns what grpcurl prints; it learns the contract by reflection."""
    given = [] if data is None else ["-d", json.dumps(data)]
    command = [str(program("grpcurl")), "-plaintext", *given, server.address, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    return done.stdout + done.stderr


def test_grpcurl_lists_the_services(server: ServerProcess) -> None:
    listed = grpcurl(server, "list").split()
    assert {"threadbus.v1.BusService", "grpc.health.v1.Health"} <= set(listed)


@pytest.mark.parametrize(
    ("symbol", "shown"),
    [
        ("threadbus.v1.BusService.PostMessage", "returns its seq once it is committed"),
        ("threadbus.v1.ErrorReason", "ERROR_REASON_STORE_BUSY = 22"),
        ("threadbus.v1.Message.seq", "Its position in the thread"),
        ("google.rpc.ErrorInfo", "message ErrorInfo {"),
        ("grpc.health.v1.Health", "rpc Watch"),
    ],
)
def test_grpcurl_describes_messages_with_their_comments(
    server: ServerProcess, symbol: str, shown: str
) -> None:
    assert shown in grpcurl(server, "describe", symbol)


def test_grpcurl_calls_an_rpc_and_prints_json_names(server: ServerProcess, name: str) -> None:
    joined = grpcurl(
        server, "threadbus.v1.ThreadService/JoinThread", data={"thread": name, "create": True}
    )
    assert json.loads(joined)["thread"]["firstSeq"] == "1"
    post = {"thread": name, "content": "x", "requestId": "a"}
    assert json.loads(grpcurl(server, "threadbus.v1.BusService/PostMessage", data=post))["lastSeq"]


def test_grpcurl_prints_error_details(server: ServerProcess, name: str) -> None:
    said = grpcurl(server, "threadbus.v1.BusService/ListMessages", data={"thread": name})
    assert '"reason": "THREAD_NOT_FOUND"' in said
    assert '"resourceType": "thread"' in said
