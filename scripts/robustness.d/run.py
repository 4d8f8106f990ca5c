"""Records histories of several servers on one store, and judges them."""

import argparse
import asyncio
import os
import secrets
import shutil
import sys
import tempfile
import time
from pathlib import Path

import controls
import history
import verdict

_DESCRIPTION = """\
Records what clients of several servers on one store see while these are killed, stopped and cut off
from their database, and judges it. Needs Go 1.24; for PostgreSQL, its programs."""

_EPILOG = f"""\
Each engine gets a new store with two servers (PostgreSQL: three). Eight clients post and read, one
call after the other, on four threads: posts with and without a request_id, some through two servers
at once and some again later, posts that expect a head, and reads of the head, of the newest message
and of one message. Each client has a server of its own, and moves to another one when a call fails.
Meanwhile each kind of fault is brought about in turn, once servers have gone on since the last one:
kill -9 and restart, a second of SIGSTOP; on PostgreSQL also the end of all sessions, cancelled
statements and a crash of the database.

what is judged:
  - Calls, by porcupine: is there one order of all calls on a thread, in which each call lies
    between its beginning and its end, that one log explains? Each post appends once and returns its
    seq; a repeated request_id appends nothing and returns the first seq; an expectation holds if
    it is the head, and else the refusal reports the head; reads see exactly what is there.
    A call whose answer was lost may have happened at any later time, or not at all.
  - Followers, one of each thread at each server and one of the SDK: each received every message
    once, in order, across all reconnections.
  - No server reports a bug or missing commits, stops with an error, or refuses a call for a reason
    other than that it stops or cannot reach its store.

Servers and clients run freely: a seed repeats the choices of clients and the order of faults, not
the history. The history is kept if something is found, or with --keep; beside it is a page that
shows the calls on a thread that cannot be explained.

controls, which alter a history so that it is wrong:
{"".join(f"  {name:<21}{text}{chr(10)}" for name, text in controls.descriptions())}
exit code: 0 nothing is wrong, 1 something is, 2 undecided or invalid usage

examples:
  scripts/robustness                                       both engines, 20 s each
  scripts/robustness --engine sqlite --seconds 60 --keep /tmp/history
  scripts/robustness --judge /tmp/history/sqlite           judges it again
  scripts/robustness --judge /tmp/history/sqlite --control stale-read
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/robustness",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--engine",
        choices=("sqlite", "postgresql", "both"),
        default="both",
        help="what the servers keep their store in (default: %(default)s)",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=20.0,
        metavar="N",
        help="for each engine, or until there was each kind of fault (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, metavar="N", help="default: a new one")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the histories in DIR")
    parser.add_argument("--judge", type=Path, metavar="DIR", help="judge a history that was kept")
    parser.add_argument(
        "--control",
        choices=controls.CONTROLS,
        metavar="NAME",
        help="with --judge: alter the history first; it must then be found wrong",
    )
    given = parser.parse_args()
    if given.control and not given.judge:
        parser.error("--control needs a history: --judge DIR")
    if missing := verdict.missing():
        parser.error(f"the checker needs {missing}")
    checker = verdict.build()
    if given.judge:
        try:
            return _judge(given.judge, given.control, checker)
        except (FileNotFoundError, ValueError) as error:
            parser.error(str(error))
    engines = ["sqlite", "postgresql"] if given.engine == "both" else [given.engine]
    seed = secrets.randbelow(10**6) if given.seed is None else given.seed
    return max(_run(parser, engine, given.seconds, seed, given.keep, checker) for engine in engines)


def _run(
    parser: argparse.ArgumentParser,
    engine: str,
    seconds: float,
    seed: int,
    keep: Path | None,
    checker: Path,
) -> int:
    """Record and judge one engine. Returns the exit code."""
    # The database is started by a fork, which gRPC does not survive with its own support for forks.
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # Only now, when these are set; and judging alone need not wait for it.
    import recording

    from tests.postgres.cluster import Missing

    folder = keep / engine if keep else Path(tempfile.mkdtemp(prefix="robustness-"))
    began = time.monotonic()
    try:
        done = asyncio.run(recording.record(engine, seconds, seed, folder))
    except (FileExistsError, Missing) as error:
        parser.error(str(error))
    took = time.monotonic() - began
    print(f"{engine}: {done.servers} servers, seed {seed}, {took:.0f} s; {done.faults}", flush=True)
    code = verdict.judge(folder, checker)
    if not keep and code:
        print(f"  the history is in {folder}")
    elif not keep:
        shutil.rmtree(folder)
    return code


def _judge(folder: Path, control: str | None, checker: Path) -> int:
    """Judge a history, altered if there is a control. Returns the exit code."""
    if control is None:
        return verdict.judge(folder, checker)
    operations, followers, problems = history.read(folder)
    controls.alter(control, operations, followers)
    with tempfile.TemporaryDirectory(prefix="robustness-") as altered:
        history.write(Path(altered), operations, followers, problems)
        return verdict.judge(Path(altered), checker)


if __name__ == "__main__":
    sys.exit(main())
