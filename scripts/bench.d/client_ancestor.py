"""An AgentChatBus client. Runs in the virtual environment of that program.

thread    registers and creates a thread
unary     posts through its REST API: `concurrency` in flight, or one every `pace` seconds;
          with `mcp`, through its MCP tools, as agents do
wait      calls msg_wait over MCP until it has received `count` messages
"""

import asyncio
import json
import sys
import time
from typing import Any

import httpx
from mcp import ClientSession
from mcp.client.sse import sse_client
from numbering import content, faults, number_of

_GRACE = 30.0


async def thread(job: dict[str, Any]) -> dict[str, Any]:
    """Create a thread. Returns its id."""
    async with _http(job) as http:
        agent = (
            await http.post("/api/agents/register", json={"ide": "bench", "model": "none"})
        ).json()
        made = await http.post(
            "/api/threads",
            json={"topic": job["thread"], "creator_agent_id": agent["agent_id"]},
            headers={"x-agent-token": agent["token"]},
        )
        made.raise_for_status()
        return {"thread": made.json()["id"]}


async def unary(job: dict[str, Any]) -> dict[str, Any]:
    """Returns the start time and latency of each post, in seconds, and the failures."""
    if job.get("mcp"):
        return await _through_mcp(job)
    count, pace = job["count"], job.get("pace", 0.0)
    began, taken = [0.0] * count, [0.0] * count
    failed: list[str] = []
    posted: list[int] = []
    numbers = iter(range(count))
    async with _http(job) as http:

        async def work() -> None:
            due = time.perf_counter()
            for number in numbers:
                if pace:
                    due = max(due + pace, time.perf_counter())
                    await asyncio.sleep(max(due - time.perf_counter(), 0.0))
                body = {"author": "human", "content": content(number, job["size"])}
                start = began[number] = time.perf_counter()
                try:
                    answer = await http.post(f"/api/threads/{job['thread']}/messages", json=body)
                except httpx.HTTPError as error:
                    failed.append(repr(error))
                else:
                    if answer.status_code == 201:
                        posted.append(number)
                    else:
                        failed.append(f"{answer.status_code}: {answer.text[:100]}")
                taken[number] = time.perf_counter() - start

        start = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(job.get("concurrency", 1))))
        elapsed = time.perf_counter() - start
        kept, promised = await _kept(http, job["thread"]), set(posted)
    return {
        "seconds": elapsed,
        "began": began,
        "taken": taken,
        "failed": failed,
        # A post that failed but was stored does not count as a duplicate.
        **faults((number for number in kept if number in promised), promised),
    }


async def _through_mcp(job: dict[str, Any]) -> dict[str, Any]:
    began, taken, failed = list[float](), list[float](), list[str]()
    url, thread_id = f"http://{job['address']}/mcp/sse", job["thread"]
    async with (
        _http(job) as http,
        sse_client(url) as (read, write),
        ClientSession(read, write) as session,
    ):
        await session.initialize()
        due = time.perf_counter()
        for number in range(job["count"]):
            # Agents get this from their previous wait, so it is not measured.
            context = (await http.post(f"/api/threads/{thread_id}/sync-context", json={})).json()
            due = max(due + job["pace"], time.perf_counter())
            await asyncio.sleep(max(due - time.perf_counter(), 0.0))
            start = time.perf_counter()
            found = await session.call_tool(
                "msg_post",
                {
                    "thread_id": thread_id,
                    "author": "human",
                    "content": content(number, job["size"]),
                    "expected_last_seq": context["current_seq"],
                    "reply_token": context["reply_token"],
                },
            )
            began.append(start)
            taken.append(time.perf_counter() - start)
            answer = found.content[0].text
            if found.isError or "msg_id" not in answer:
                failed.append(answer[:100])
    return {"began": began, "taken": taken, "failed": failed}


async def _kept(http: httpx.AsyncClient, thread_id: str) -> list[int]:
    numbers, after = list[int](), 0
    while True:
        path = f"/api/threads/{thread_id}/messages?after_seq={after}&limit=1000"
        try:
            found = (await http.get(path)).json()
        except httpx.TransportError:  # it has just closed the idle connection
            continue
        if not found:
            return numbers
        numbers += [number_of(message["content"]) for message in found]
        after = found[-1]["seq"]


async def wait(job: dict[str, Any]) -> dict[str, Any]:
    """Returns when each message arrived, on the monotonic clock."""
    count = job["count"]
    arrived, numbers, after = [0.0] * count, list[int](), 0
    url = f"http://{job['address']}/mcp/sse"
    async with sse_client(url) as (read, write), ClientSession(read, write) as session:
        await session.initialize()
        print("ready", flush=True)
        give_up = time.perf_counter() + job["seconds"] + _GRACE
        while len(numbers) < count and time.perf_counter() < give_up:
            found = await session.call_tool(
                "msg_wait",
                {
                    "thread_id": job["thread"],
                    "after_seq": after,
                    "timeout_ms": 5_000,
                    "return_format": "json",
                },
            )
            now = time.perf_counter()
            for message in json.loads(found.content[0].text)["messages"]:
                number, after = number_of(message["content"]), message["seq"]
                numbers.append(number)
                if 0 <= number < count:
                    arrived[number] = now
    return {"arrived": arrived, **faults(numbers, range(count))}


def _http(job: dict[str, Any]) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=1_000, max_keepalive_connections=1_000)
    return httpx.AsyncClient(
        base_url=f"http://{job['address']}", timeout=30, limits=limits, trust_env=False
    )


if __name__ == "__main__":
    job = json.loads(sys.argv[1])
    print(json.dumps(asyncio.run({"thread": thread, "unary": unary, "wait": wait}[job["do"]](job))))
