"""What a page reads: threads, messages, files, requests, agents, exports."""

from pathlib import Path

import httpx
import pytest

from bus_client import Attachment, BusClient
from tests.console.consoles import PERSON, ConsoleProcess
from tests.serving import ServerProcess
from tests.shell import Shell

pytestmark = pytest.mark.slow


async def test_the_page_knows_for_whom_it_acts(
    client: httpx.AsyncClient, console: ConsoleProcess, server: ServerProcess
) -> None:
    assert (await client.get("api/me")).json() == {
        "agent": PERSON,
        "kind": "human",
        "operator": False,
        "server": server.address,
    }
    assert console.who == f"{PERSON} (human) at {server.address}"


async def test_a_thread_is_read_in_pages(
    client: httpx.AsyncClient, bus: BusClient, name: str
) -> None:
    thread = await bus.join(name, topic="a <b>topic</b>")
    async for _ in thread.post_many(f"text {seq}" for seq in range(1, 251)):
        pass

    async def page(query: str = "") -> list[int]:
        found = (await client.get(f"api/threads/{name}?{query}")).json()
        assert found["thread"]["topic"] == "a <b>topic</b>"
        return [message["seq"] for message in found["messages"]]

    assert await page() == list(range(151, 251))
    assert await page("before=151&limit=50") == list(range(101, 151))
    assert await page("before=4") == [1, 2, 3]
    assert await page("before=1") == []
    assert await page("before=9999&limit=2") == [249, 250]
    assert await page("around=100&limit=10") == list(range(95, 105))
    assert await page("around=1&limit=3") == [1, 2, 3]
    assert await page("around=249&limit=10") == list(range(244, 251))
    assert await page("around=9999&limit=10") == []
    assert len(await page("limit=100000")) == 200
    assert len(await page("limit=0")) == 1


async def test_a_long_text_is_loaded_on_request(
    client: httpx.AsyncClient, bus: BusClient, name: str
) -> None:
    thread = await bus.join(name)
    text = "€" * 100_000
    await thread.post(text)
    found = (await client.get(f"api/threads/{name}")).json()["messages"][0]
    assert found["content_truncated"]
    assert len(found["content"].encode()) <= 20_000
    assert found["content_size"] == 300_000
    assert (await client.get(f"api/threads/{name}/1")).json()["content"] == text
    assert (await client.get(f"api/threads/{name}/2")).status_code == 404


async def test_a_file_is_saved_and_never_shown(
    client: httpx.AsyncClient, bus: BusClient, name: str
) -> None:
    thread = await bus.join(name)
    svg = b"<svg onload='alert(1)'/>"
    hostile = '"a;é\u202egnp.svg'
    files = [
        Attachment(filename=hostile, media_type="image/svg+xml", raw=svg),
        Attachment(raw=b"\x00"),
        Attachment(url="https://example.org/x"),
    ]
    await thread.post("files", attachments=files)
    (shown,) = (await client.get(f"api/threads/{name}")).json()["messages"]
    assert shown["attachments"][0]["size"] == len(svg)
    assert "raw" not in shown["attachments"][0]
    response = await client.get(f"api/threads/{name}/1/0")
    assert response.content == svg
    assert response.headers["content-type"] == "application/octet-stream"
    saved = response.headers["content-disposition"]
    assert saved == ("attachment; filename*=UTF-8''%22a%3B%C3%A9%E2%80%AEgnp.svg")
    other = await client.get(f"api/threads/{name}/1/1")
    assert (other.content, "file" in other.headers["content-disposition"]) == (b"\x00", True)
    for missing in (2, 3):  # a link, and nothing
        assert (await client.get(f"api/threads/{name}/1/{missing}")).status_code == 404


async def test_agents_are_listed(client: httpx.AsyncClient, bus: BusClient) -> None:
    agents = {agent["name"]: agent for agent in (await client.get("api/agents")).json()}
    assert agents[PERSON]["kind"] == "AGENT_KIND_HUMAN"
    assert bus.agent in agents


@pytest.mark.parametrize("form", ["jsonl", "markdown"])
async def test_an_export_is_that_of_the_shell(
    client: httpx.AsyncClient,
    bus: BusClient,
    server: ServerProcess,
    home: Path,
    name: str,
    form: str,
) -> None:
    thread = await bus.join(name)
    first = await thread.post("wording one", mentions=[PERSON], ask=True)
    await thread.post("wording two", edit_of=first.seq)
    async for _ in thread.post_many(f"text {seq}" for seq in range(250)):
        pass
    shell = Shell(server.address, home)
    told = shell.run_process("export", name, "--format", form)
    response = await client.get(f"api/threads/{name}/export", params={"format": form})
    assert response.text == told.out
    end = "md" if form == "markdown" else "jsonl"
    saved = f"attachment; filename*=UTF-8''{name}.{end}"
    assert response.headers["content-disposition"] == saved


async def test_what_is_not_there_is_said(client: httpx.AsyncClient, name: str) -> None:
    for path in ("", "/1", "/1/0", "/export"):
        response = await client.get(f"api/threads/{name}{path}")
        assert response.status_code == 404, path
        assert response.json()["reason"] == "THREAD_NOT_FOUND", path
