"""Plays scenes one after the other and prints the result of each."""

import argparse
import sys
import time

import breaks
import takeovers
from load import BUSY, POSTERS, QUIET
from scene import LOST, Result, play
from waiting import SceneFailed

from tests.postgres.cluster import Missing

SCENES = {scene.name: scene for scene in (*takeovers.SCENES, *breaks.SCENES)}
_POSTS = 2_000
_HEAD = (
    f"{'scene':<18} {'posts':>6} {'longest ms':>10} {'retries':>7} {'lost':>5} {'doubled':>7} "
    f"{'resyncs':>7} {'seconds':>7}"
)
_HELP = f"""
Each scene gets a new PostgreSQL server, some of them a standby, and two ThreadBus servers on it. To
each server, half of {POSTERS} posters post to the threads {", ".join(BUSY)}. Half of them use the
SDK, half plain stubs, which send some posts through both servers at once. Each repeats a post with
its request_id until it is acknowledged. At each server, every thread has a follower of the SDK, and
a WaitMessages call that is never repeated. The thread {QUIET} gets a post at the beginning and at
the end. A line is ok if all of this is true:

  - every acknowledged post is stored once, at the seq that was acknowledged;
  - the seqs are 1, 2, 3 … without a gap, and nothing else is stored;
  - every reader has read the stored messages, each once and in order;
  - open waits stay open, except at servers that the scene stops;
  - no thread gets a new epoch, no wait a resync, and no server logs an error.

"asynchronous" and "standby-only" must lose posts: else the scene, or the check, is worth nothing.
There, a line is ok if

  - at least {LOST} acknowledged posts are gone, and nothing that is acknowledged after it;
  - a server has logged that at level CRITICAL;
  - every thread has a new epoch, which says how much is left;
  - every reader of something that is gone got a resync to the last message that is left. The
    others, among them some that were away meanwhile, got none.

The columns: the posts that were acknowledged; the longest time from the first call of a post until
it was; failed calls that were repeated by posters, without those that the SDK repeats on its own;
acknowledged posts that are gone; posts that are stored twice or were acknowledged with two seqs;
resyncs that took something back.

To add a scene, write a function that takes a Stage in takeovers.py or breaks.py, and add a Scene to
SCENES there. It breaks something, and waits for posts in between: the load goes on meanwhile.
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/failover",
        usage="%(prog)s [--list] [--posts N] [NAME …]",
        description="Breaks PostgreSQL under ThreadBus servers and checks what became of the "
        "posts. Exit code 1: a check failed; 2: wrong usage, or no PostgreSQL.",
        epilog=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", metavar="NAME", nargs="*", help="only these scenes")
    parser.add_argument("--list", action="store_true", help="list the scenes")
    parser.add_argument(
        "--posts",
        type=_count,
        default=_POSTS,
        metavar="N",
        help="at least how many in each scene (default: %(default)s); most scenes break something "
        "after each quarter of them",
    )
    options = parser.parse_args()
    if unknown := set(options.names) - SCENES.keys():
        parser.error(f"no scene {', '.join(sorted(unknown))}; the scenes are {', '.join(SCENES)}")
    chosen = [SCENES[name] for name in options.names or SCENES]
    if options.list:
        for scene in chosen:
            print(f"{scene.name:<18} {scene.what}")
        return 0
    print(_HEAD, flush=True)
    start, failed = time.monotonic(), 0
    for scene in chosen:
        try:
            result = play(scene, options.posts)
        except Missing as missing:
            parser.error(str(missing))
        except (SceneFailed, OSError, AssertionError, ExceptionGroup) as error:
            failed += 1
            print(f"{scene.name:<18} FAILED: {_first(error)!r}", flush=True)
        else:
            failed += bool(result.verdict.wrong)
            print(f"{scene.name:<18} {_line(result)}", flush=True)
    print(f"{len(chosen) - failed} ok, {failed} FAILED, in {time.monotonic() - start:.0f} s")
    return 1 if failed else 0


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("a number of 1 or more")
    return int(text)


def _line(result: Result) -> str:
    found = result.verdict
    figures = (
        f"{result.posts:>6} {result.longest * 1e3:>10.0f} {result.retries:>7} {found.lost:>5} "
        f"{found.doubled:>7} {found.resyncs:>7} {result.seconds:>7.1f}"
    )
    verdict = f"FAILED: {'; '.join(found.wrong[:5])}" if found.wrong else "ok"
    return "  ".join([figures, ", ".join([verdict, *result.notes])])


def _first(error: Exception) -> Exception:
    """Returns the error, or the first one of a group."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


if __name__ == "__main__":
    sys.exit(main())
