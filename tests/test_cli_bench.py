"""`threadbus bench`: its threads, its counts and its cleaning up. No time is asserted."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bus_client import BusClient, ThreadHandle
from bus_client.cli.bench.results import Tally, content, number_of, percentile
from tests.polling import until_known
from tests.serving import ServerProcess
from tests.shell import Shell

SHORT = ["--seconds", "0.05", "--concurrency", "4"]
FIGURES = {
    "post": {"posts_per_s", "p50_ms", "p99_ms"},
    "wake": {"p50_ms", "p99_ms"},
}


@pytest.fixture
def shell(server: ServerProcess, tmp_path: Path) -> Shell:
    return Shell(server.address, tmp_path)


@pytest.fixture
async def other_client(server: ServerProcess) -> AsyncIterator[BusClient]:
    """Another client of the server."""
    async with BusClient(server.address) as bus:
        yield bus


async def running_thread(bus: BusClient) -> ThreadHandle:
    """Return the thread of the running benchmark, once a message was posted to it."""
    found: list[str] = []

    async def is_there() -> bool:
        found[:] = [t.name async for t in bus.list_threads(prefix="bench-") if t.head_seq]
        return bool(found)

    await until_known(is_there)
    return bus.thread(found[0])


async def left_behind(bus: BusClient) -> list[str]:
    return [thread.name async for thread in bus.list_threads(prefix="bench-")]


@pytest.mark.slow
@pytest.mark.parametrize("name", FIGURES)
async def test_each_benchmark_prints_its_figures_and_that_all_arrived_once(
    shell: Shell, other_client: BusClient, name: str
) -> None:
    done = await asyncio.to_thread(shell.run, "bench", "--only", name, *SHORT, "--json")
    assert (done.code, done.err, done.json["sound"]) == (0, "", True)
    (result,) = done.json["benchmarks"]
    assert (result["name"], result["lost"], result["duplicated"]) == (name, 0, 0)
    assert result["count"] > 0
    assert all(result[figure] > 0 for figure in FIGURES[name])
    assert set(result) == {"name", "what", "count", "lost", "duplicated", *FIGURES[name]}
    assert not await left_behind(other_client)


@pytest.mark.slow
def test_without_json_all_benchmarks_run_and_are_printed_as_text(shell: Shell) -> None:
    done = shell.run("bench", *SHORT, "--size", "16")
    assert done.code == 0
    assert "durability full" in done.err
    lines = done.out.splitlines()
    assert [line.split()[0] for line in lines[::2]] == list(FIGURES)
    assert all("0 lost, 0 duplicated of" in line for line in lines[1::2])


@pytest.mark.slow
def test_bench_runs_as_an_agent_where_tokens_are_required(shell: Shell, name: str) -> None:
    done = shell.run("bench", *SHORT, "--as", name, "--json")
    assert (done.code, done.json["sound"]) == (0, True)


@pytest.mark.slow
def test_large_messages_are_measured_too(shell: Shell) -> None:
    done = shell.run("bench", *SHORT, "--size", str(1024 * 1024), "--json")
    assert (done.code, done.json["sound"]) == (0, True)


@pytest.mark.slow
def test_on_a_terminal_bench_shows_its_progress(shell: Shell) -> None:
    code, shown = shell.on_terminal("bench", "--only", "post", *SHORT)
    assert code == 0
    assert "100%" in shown


@pytest.mark.slow
@pytest.mark.parametrize("name", FIGURES)
async def test_duplicates_are_reported_with_exit_code_1(
    shell: Shell, other_client: BusClient, name: str
) -> None:
    arguments = ["bench", "--only", name, "--seconds", "2", "--json"]
    running = asyncio.create_task(asyncio.to_thread(shell.run, *arguments))
    thread = await running_thread(other_client)
    (message,) = await thread.messages(limit=1)
    await thread.post(message.content)
    done = await running
    assert (done.code, done.json["sound"]) == (1, False)
    (result,) = done.json["benchmarks"]
    assert (result["lost"], result["duplicated"]) == (0, 1)


@pytest.mark.slow
async def test_an_interrupted_run_leaves_nothing_behind(
    shell: Shell, other_client: BusClient
) -> None:
    with shell.start("bench", "--seconds", "60") as process:
        await running_thread(other_client)
        process.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(process.wait, 20) == 130
    assert not await left_behind(other_client)


@pytest.mark.parametrize(
    "options",
    [["--only", "psot"], ["--only", ""], ["--seconds", "0"], ["--size", "15"]],
    ids=" ".join,
)
def test_wrong_usage_is_exit_code_2(shell: Shell, options: list[str]) -> None:
    done = shell.run("bench", *options)
    assert (done.code, done.out) == (2, "")


def test_missing_messages_count_as_lost_and_repeated_ones_as_duplicated() -> None:
    tally = Tally()
    tally.got.update([0, 2, 2, 3, 2])
    assert (tally.lost(range(4)), tally.duplicated()) == (1, 2)


@pytest.mark.parametrize(("number", "size"), [(0, 16), (1_234_567, 16), (42, 100_000)])
def test_a_message_holds_its_number(number: int, size: int) -> None:
    text = content(number, size)
    assert (number_of(text), len(text.encode())) == (number, size)


def test_text_of_other_messages_is_no_number() -> None:
    assert number_of("Warm-up") == -1


@pytest.mark.parametrize(("part", "value"), [(0, 1.0), (50, 2.0), (75, 3.0), (99, 4.0), (100, 4.0)])
def test_a_percentile_is_a_value_that_this_share_does_not_exceed(part: float, value: float) -> None:
    assert percentile([1.0, 2.0, 3.0, 4.0], part) == value
