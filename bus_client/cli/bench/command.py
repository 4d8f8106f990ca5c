"""`threadbus bench`."""

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
            raise click.BadParameter(f"{name!r} is none of {', '.join(_BENCHMARKS)}.")
    return [name for name in _BENCHMARKS if name in chosen]


@click.command()
@click.option(
    "--only",
    "names",
    metavar="NAME,…",
    default=",".join(_BENCHMARKS),
    callback=_parse_names,
    help="Which of them to run.",
)
@click.option(
    "--seconds",
    metavar="TIME",
    type=Duration(0.01, 3_600),
    default=3.0,
    help="How long each of them posts.",
)
@click.option(
    "--size",
    metavar="BYTES",
    type=click.IntRange(16, 1024 * 1024),
    default=256,
    help="The content of a message.",
)
@click.option(
    "--concurrency",
    metavar="N",
    type=click.IntRange(1, 10_000),
    default=64,
    help="post: so many under way at once.",
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
    """Measure a server: how fast it takes posts and wakes who waits, and that nothing is lost.

    \b
      post  posts/s with --concurrency under way, and how long each takes
      wake  from a post to one who waits having it

    What this program itself costs is in all figures: it is one process, in Python. Each benchmark
    has a thread of its own, bench-…, which is deleted at the end. It is a load: on a server that
    others use they notice it.

    Exit code 1: something was lost, or came twice.

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
    """A new thread's name; the thread is deleted at the end, whatever happens."""
    name = f"bench-{secrets.token_hex(8)}"
    try:
        await bus.create_thread(name, topic="threadbus bench")
        yield name
    finally:
        try:
            await bus.thread(name).delete()
        except bus_client.ThreadNotFound:
            pass  # it was never made
        except bus_client.BusError:
            session.out.note(f"Left behind: threadbus thread delete {name} --yes deletes it.")
            raise
