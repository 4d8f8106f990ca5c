"""No text that a caller may send breaks a statement, although PostgreSQL's text has no U+0000."""

from collections.abc import Awaitable, Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from tests import serving
from tests.callers import operator, register
from tests.connections import connected
from tests.peers import Peer
from tests.rpcs import RPCS, good_request
from tests.serving import ServerProcess

NUL = "a\0b"

#: What a server must never answer to a request, whatever is in it.
FAILURES = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNAVAILABLE}

#: The RPCs that take no text.
WITHOUT_TEXT = {"GetServerInfo", "GetStatus"}


@pytest.fixture
def over_postgres(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ServerProcess]:
    monkeypatch.setattr(serving, "database_of", lambda _: postgres_url)
    with ServerProcess(tmp_path / "bus.db") as server:
        yield server


def with_nul(request: Message) -> Iterator[tuple[str, Message]]:
    """Returns the path of each text that a request may have, and the request with a NUL there."""
    for field in request.DESCRIPTOR.fields:
        changed = type(request)()
        changed.CopyFrom(request)
        value = getattr(changed, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            for key, text in ((NUL, "v"), ("k", NUL)):
                value.clear()
                value[key] = text
                yield field.name, changed
        elif field.type == FieldDescriptor.TYPE_STRING:
            if field.is_repeated:
                value.append(NUL)
            else:
                setattr(changed, field.name, NUL)
            yield field.name, changed
        elif field.message_type is not None:
            inner = value
            if field.is_repeated:
                inner = value[0] if value else value.add()
            good = type(inner)()
            good.CopyFrom(inner)
            for path, other in with_nul(good):
                inner.CopyFrom(other)
                yield f"{field.name}.{path}", changed


async def outcome(answer: Awaitable[bytes] | object) -> grpc.StatusCode:
    """Returns how a call ends."""
    try:
        if isinstance(answer, Awaitable):
            await answer
        else:
            async for _ in answer:  # type: ignore[attr-defined]
                pass
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


@pytest.mark.slow
async def test_a_nul_in_any_text_of_any_rpc_is_stored_or_refused(
    over_postgres: ServerProcess, name: str
) -> None:
    boss, texts = operator(over_postgres), dict[str, list[str]]()
    async with connected(over_postgres.address) as client:
        for rpc in RPCS:
            agent = await register(client.agents, f"{name}-{str(rpc).lower()}")
            caller = boss if rpc.path.endswith("ListWaits") else agent
            async with connected(over_postgres.address, f"{name}-{rpc}"):
                await Peer(client.bus, agent).post(f"{name}-{rpc}")
            for path, request in with_nul(good_request(rpc, f"{name}-{rpc}")):
                texts.setdefault(str(rpc), []).append(path)
                answer = rpc.call(
                    client.channel,
                    request.SerializeToString(),
                    metadata=caller.metadata,
                    timeout=10,
                )
                assert await outcome(answer) not in FAILURES, (str(rpc), path)
        assert {str(rpc) for rpc in RPCS} - texts.keys() == WITHOUT_TEXT
        assert (await Peer(client.bus).post(f"{name}-GetThread", NUL)).seq == 2
        (_, last) = await Peer(client.bus).read(f"{name}-GetThread")
        assert last.content == NUL
    assert over_postgres.problems == []
