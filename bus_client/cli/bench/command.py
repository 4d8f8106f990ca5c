"""The verb `threadbus bench`."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import click

import bus_client
from bus_client.cli.bench.runs import Bench, Load, post, wake
from bus_client.cli.failures import FAILED
from bus_client.cli.options import Duration, as_option, timeout_option
from bus_client.cli.progress import progress
from bus_client.cli.session import Session, on_server

if TYPE_CHECKING:
    from bus_client import BusClient

_BENCHMARKS = {"post": post, "wake": wake}


def _parse_names(_: click.Context, __: click.Parameter, names: str) -> Sequence[str]:
    chosen = [name.strip() for name in names.split(",")]
    for name in chosen:
        if name not in _BENCHMARKS:
            raise click.BadParameter(f"{name!r} is not one of {', '.join(_BENCHMARKS)}.")
    return [name for name in _BENCHMARKS if name in chosen]


@click.command()
@click.option(
    "--only",
    "names",
    metavar="NAME,…",
    default=",".join(_BENCHMARKS),
    callback=_parse_names,
    help="Which benchmarks to run.",
)
@click.option(
    "--seconds",
    metavar="TIME",
    type=Duration(0.01, 3_600),
    default=3.0,
    help="How long each benchmark posts.",
)
@click.option(
    "--size",
    metavar="BYTES",
    type=click.IntRange(16, 1024 * 1024),
    default=256,
    help="The size of each message's content.",
)
@click.option(
    "--concurrency",
    metavar="N",
    type=click.IntRange(1, 10_000),
    default=64,
    help="How many posts `post` keeps in flight.",
)
@as_option
@timeout_option
@on_server
async def bench(
    session: Session,
    names: Sequence[str],
    seconds: float,
    size: int,
    concurrency: int,
) -> int:
    """Measure how fast a server takes posts and wakes a waiting client; check that nothing is lost.

    \b
      post  posts/s with --concurrency in flight, and how long each takes
      wake  the time from a post until a waiting client receives it

    The figures include the cost of this program, which is a single process in Python. Each
    benchmark creates a thread, bench-…, and deletes it at the end. Others who use the server will
    notice the load.

    Exit code 1: a message was lost, or delivered twice.

    \b
    Examples:
      threadbus bench
      threadbus bench --only wake --seconds 10
      threadbus bench --size 3000 --json | jq '.benchmarks[] | {name, p99_ms}'
    """
    load = Load(seconds=seconds, size=size, concurrency=concurrency)
    async with session.connect() as poster, session.connect() as reader:
        info = await poster.server_info()
        session.out.note(
            f"{session.server}, version {info.version or 'unknown'}, durability {info.durability}"
        )
        results = []
        for name in names:
            async with _own_thread(session, poster) as thread:
                with progress(session.out, f"{name:8}", length=round(seconds * 1_000)) as step:
                    run = Bench(poster, reader, thread, load, step)
                    results.append(await _BENCHMARKS[name](run))
            if not session.out.json:
                session.out.show(None, results[-1].lines(colour=session.out.colour))
    sound = all(result.sound for result in results)
    if session.out.json:
        document = {
            "server": session.server,
            "version": info.version,
            "durability": info.durability,
            "benchmarks": [result.document() for result in results],
            "sound": sound,
        }
        session.out.show(document, [])
    return 0 if sound else FAILED


@asynccontextmanager
async def _own_thread(session: Session, bus: BusClient) -> AsyncIterator[str]:
    """Yields the name of a new thread, which is deleted at the end, even after an error.

    Raises:
        BusError: The thread could not be created or deleted.
    """
    name = f"bench-{secrets.token_hex(8)}"
    try:
        await bus.create_thread(name, topic="threadbus bench")
        yield name
    finally:
        try:
            await bus.thread(name).delete()
        except bus_client.ThreadNotFound:
            pass  # it was never created
        except bus_client.BusError:
            session.out.note(
                f"A thread was left behind; delete it: threadbus thread delete {name} --yes"
            )
            raise
