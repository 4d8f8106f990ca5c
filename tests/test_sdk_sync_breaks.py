"""The SDK without asyncio when servers die, hang, or have another epoch."""

import signal
from pathlib import Path

import pytest

from bus_client import CursorLost, OutcomeUnknown, Unreachable
from bus_client.sync import BusClient
from tests.blocking import member, take
from tests.conftest import StartServer
from tests.members import contents
from tests.serving import ServerProcess


@pytest.mark.slow
def test_a_server_killed_in_mid_follow_loses_and_repeats_nothing(
    start_server: StartServer, name: str, tmp_path: Path
) -> None:
    server = start_server()
    posted = [f"{n} " + "x" * 200_000 for n in range(40)]  # more than a connection buffers
    with (
        member(server.address, name, tmp_path, role="writer") as writer,
        member(server.address, name, tmp_path) as reader,
    ):
        for content in posted:
            writer.post(content)
        messages = reader.follow()
        assert take(messages, 3) == posted[:3]
        server.kill()
        server.start()
        assert take(messages, 37) == posted[3:]
        server.kill()
        server.start()
        writer.post("live")
        assert take(messages, 1) == ["live"]
        messages.close()


def test_a_recreated_thread_raises_the_position_to_continue_at(
    server: ServerProcess, name: str, tmp_path: Path
) -> None:
    with (
        member(server.address, name, tmp_path, role="writer") as writer,
        member(server.address, name, tmp_path) as reader,
    ):
        for text in ("old", "older"):
            writer.post(text)
        reader.acknowledge(2)
        writer.delete()
        with BusClient(server.address) as anyone:
            anyone.join(name).post("new")
        with pytest.raises(CursorLost) as lost:
            next(reader.follow())
        assert lost.value.reason == "EPOCH_CHANGED"
        assert reader.position == lost.value.position
        assert take(reader.follow(), 1) == ["new"]


@pytest.mark.slow
def test_a_post_without_a_response_has_an_unknown_outcome_and_can_be_retried(
    start_server: StartServer, name: str
) -> None:
    server = start_server()
    with BusClient(server.address) as bus:
        handle = bus.join(name)
        server.signal(signal.SIGSTOP)
        with pytest.raises(OutcomeUnknown) as unknown:
            handle.post("hello", timeout=1)
        server.signal(signal.SIGCONT)
        again = handle.post("hello", request_id=unknown.value.request_id)
        assert again.seq == 1
        assert contents(handle.messages()) == ["hello"]


@pytest.mark.slow
def test_a_missing_server_is_unreachable(start_server: StartServer, name: str) -> None:
    server = start_server()
    with BusClient(server.address) as bus:
        handle = bus.join(name)
        server.kill()
        with pytest.raises(Unreachable):
            handle.wait(timeout=0)
        with pytest.raises(Unreachable):
            handle.post("hello", timeout=0.1)
    with pytest.raises(Unreachable):
        BusClient(server.address, timeout=0.1).connect()
