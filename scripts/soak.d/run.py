"""Runs the soak and prints what it found."""

import argparse
import dataclasses
import json
import math
import shutil
import sys
import tempfile
import textwrap
from pathlib import Path

from programs import ClientFailed
from samples import BOUNDS, OTHERS
from soak import (
    CHURNING,
    FILL,
    FOLLOWERS,
    IDLE,
    POSTERS,
    RATE,
    THREADS,
    VISITORS,
    Result,
    Soak,
)
from trend import ERRORS, WARM_UP, Trend

from bus_client import BusError

_HEAD = (
    f"{'figure':<16} {'first':>9} {'last':>9} {'slope/h':>10} {'± error':>9} {'growth':>9} "
    f"{'bound':>8}  verdict"
)
_LOAD = f"""\
{POSTERS} agents post {RATE:.0f} messages a second to {len(THREADS)} threads; {FOLLOWERS} followers
receive all of them. One agent asks another one every second. {IDLE} wait on threads to which nobody
posts. {CHURNING} threads are created, posted to, followed and deleted, again and again. Visitors
with {VISITORS} names, a process each, join, post, wait, look into their inboxes, ask and leave. A
third of them are killed (SIGKILL), and a third stopped for a while (SIGSTOP). In turns, there is a
backup, a reload (SIGHUP), a kill -9 and restart of a server, and a `threadbus status`.
"""

_EPILOG = f"""\
The servers run with their default settings on one new file. The load is fixed, and far from what
they can do. All of it uses the Python SDK, in processes of their own. First, {FILL:,} messages are
posted, so that the server's caches are full; then

{textwrap.fill(_LOAD, 98, initial_indent="  ", subsequent_indent="  ")}

The server that is killed is another one on the same file, with one of the posters and two more
followers: what is measured is one life of a server, as long as the run, whose peer dies and comes
back. Latencies are of agents at the measured server only.

what grows: a line of least squares goes through the samples after the first {WARM_UP:.0%} of the
run. A figure fails if the line's growth is above its bound by more than {ERRORS:.0f} standard
errors, which take into account that samples which follow each other are alike. Where more growth
than the bound could hide in the error, "unclear" is said, which does not fail. A bound is for the
whole run, however long. CPU time and latencies are fitted only through the samples during which
other processes used less than {OTHERS} of a core; on a machine that is never so quiet, they are not
judged. Their disk is not watched.

{"".join(f"  {b.figure:<16}{b.limit():<12}{b.why}{chr(10)}" for b in BOUNDS)}
what must hold at the end: each acknowledged post is stored once, at its seq; each follower received
all messages of its threads once and in order; each question was answered; the server counts the
waits that clients have open, and none once they are gone; agents that stay are WAITING, those that
left OFFLINE, and those that were killed LAPSED; the last backups can be restored, have what was
stored before, and pass `threadbus doctor --deep`; no server logged an error.

Messages are never deleted, so the store grows: with them, and with nothing else, says the figure
"store B/message". The threads that are deleted add nothing to it.

Arguments after -- are flags for both servers: scripts/soak --minutes 1 -- --agent-timeout 20

exit code: 0 nothing is wrong, 1 something is, 2 wrong usage
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/soak",
        usage="%(prog)s [--minutes N] [--json FILE] [--keep DIR] [--control leak] [-- FLAG …]",
        description="Runs a server under a moderate load, and reports what grows.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--minutes", type=_minutes, default=30.0, metavar="N", help="default: %(default)s"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write figures and samples")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep store, backups and logs")
    parser.add_argument(
        "--control", choices=("leak",), help="keep a new connection open at each sample: must fail"
    )
    own, flags = _split(sys.argv[1:])
    given = parser.parse_args(own)
    folder = given.keep or Path(tempfile.mkdtemp(prefix="soak-"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        soak = Soak(given.minutes * 60, folder.resolve(), flags, leak=given.control == "leak")
        result = soak.run()
    except FileExistsError as error:
        parser.error(f"{error.filename} exists")
    except (ClientFailed, AssertionError, OSError, BusError, ExceptionGroup) as error:
        print(f"FAILED: {_first(error)!r}")
        return 1
    finally:
        if not given.keep:
            shutil.rmtree(folder)
    _print(result)
    if given.json:
        given.json.write_text(_document(result), "utf-8")
    return int(result.wrong)


def _print(result: Result) -> None:
    last = result.samples[-1]
    print(
        f"\n{result.seconds / 60:.1f} minutes with {last['messages']:,.0f} messages,"
        f" {last['posts/s']:.0f} posts/s, {last['deliveries/s']:.0f} deliveries/s; "
        + ", ".join(f"{count} {kind}" for kind, count in sorted(result.events.items()))
    )
    print(f"\n{_HEAD}")
    for trend in result.trends:
        print(_line(trend))
    count = len(result.samples)
    print(f"during {result.disturbed} of {count} samples, other processes used the machine")
    for figure in result.unjudged:
        print(f"NOT JUDGED: {figure}")
    for problem in result.problems:
        print(f"FOUND: {problem}")
    print("SOMETHING IS WRONG" if result.wrong else "nothing is wrong")


def _line(trend: Trend) -> str:
    verdict = trend.wrong or ("unclear" if trend.unclear else "ok")
    figures = (trend.first, trend.last), (trend.slope, trend.error), (trend.growth, trend.allowed)
    (first, last), (slope, error), (growth, allowed) = figures
    return (
        f"{trend.bound.figure:<16} {first:>9.2f} {last:>9.2f} {slope:>+10.2f} {error:>9.2f} "
        f"{growth:>+9.2f} {allowed:>8.2f}  {verdict}"
    )


def _document(result: Result) -> str:
    document = {
        **{"seconds": result.seconds, "wrong": result.wrong, "problems": result.problems},
        **{"unjudged": result.unjudged, "disturbed": result.disturbed},
        **{"events": result.events, "times": result.times},
        "trends": [dataclasses.asdict(trend) for trend in result.trends],
        # JSON has no NaN.
        "samples": [
            {name: None if math.isnan(value) else value for name, value in sample.items()}
            for sample in result.samples
        ],
    }
    return json.dumps(document)


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = math.nan
    if not 0.1 <= minutes <= 10_000:
        raise argparse.ArgumentTypeError("a number of minutes, 0.1 or more")
    return minutes


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Split the arguments at --."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:at], arguments[at + 1 :]


def _first(error: Exception) -> Exception:
    """Returns the error, or the first one of a group."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


if __name__ == "__main__":
    sys.exit(main())
