"""Runs attacks one after the other and prints the result of each."""

import argparse
import os
import sys
import time

import grpc
import server
import trial
from catalogue import ATTACKS
from trial import Trial

_SECONDS = 5.0
_MB = 1_000_000
_HEAD = (
    f"{'attack':<22} {'innocent: calls':>15} {'failed':>6} {'p50':>6} {'p99':>6} {'max':>6} "
    f"{'idle p99':>8}   {'MB before':>9} {'peak':>5} {'after':>5} {'in s':>5}"
)
_HELP = f"""
Each attack gets a new server on a new file. At the same time an innocent agent posts every 20 ms,
each post with a deadline of 2 s, and waits on the same thread through another connection. A line is
ok if all of this is true:

  - no call of the innocent agent fails or misses its deadline, and it receives each of its posts
    once, in order;
  - the p99 of its posts is at most {trial.MOST_P99:.0f} ms, or {trial.MOST_TIMES:.0f} times
    the p99 just before the attack;
  - the server stays below {trial.MOST_MEMORY // _MB} MB, and within {trial.SETTLE:.0f} s of the
    end of the attack it holds at most {trial.MOST_KEPT // _MB} MB more than before;
  - the attackers got the expected responses, if the attack checks that (each post refused, say);
  - the server still responds, and logged no traceback.

The columns: the agent's calls during the attack, how many failed, and the latencies of its posts in
ms; their p99 before the attack; the server's memory before the attack, at its peak and after it,
and the seconds from the end of the attack until it was released. The line below says what the
attackers did.

The latencies depend on the machine, too. The attackers of "control" do nothing to the server: if
that line fails, the machine is too busy, and the latencies of the other lines mean nothing.
An attack is stopped when the server holds {trial.WON // _MB:,} MB: it has succeeded.
Arguments after -- are flags for the servers: scripts/attack reset -- --max-streams 100

To add an attack, write a function in scripts/attack.d that takes a Target, prepares, calls ready()
and attacks while left() > 0, and add its Attack to ATTACKS in that file. load.py keeps raw calls in
flight.
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/attack",
        usage="%(prog)s [--list] [--seconds SECONDS] [NAME …] [-- FLAG …]",
        description="Attacks real servers and checks that they keep working. "
        "Exit code 1: a check failed.",
        epilog=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "parts", metavar="NAME", nargs="*", help="only attacks whose name contains NAME"
    )
    parser.add_argument("--list", action="store_true", help="list the attacks")
    parser.add_argument(
        "--seconds",
        type=float,
        default=_SECONDS,
        help="per attack (default: %(default)s), without preparation and release of memory",
    )
    arguments, flags = _split(sys.argv[1:])
    options = parser.parse_args(arguments)
    chosen = [
        attack
        for name, attack in ATTACKS.items()
        if not options.parts or any(part in name for part in options.parts)
    ]
    if not chosen:
        parser.error(f"no attack has a name like this; the attacks are {', '.join(ATTACKS)}")
    if options.list:
        for attack in chosen:
            print(f"{attack.name:<22} {attack.what} (--auth {attack.auth})")
        return 0
    os.sched_setaffinity(0, server.CLIENT_CORES)
    print(_HEAD, flush=True)
    start, failed = time.monotonic(), 0
    for attack in chosen:
        try:
            tried = trial.run(attack, options.seconds, flags)
        except (RuntimeError, OSError, ValueError, grpc.RpcError) as error:
            failed += 1
            print(f"{attack.name:<22} FAILED: {error}", flush=True)
            continue
        failed += bool(tried.wrong)
        print(*_lines(tried), sep="\n", flush=True)
    ok = len(chosen) - failed
    print(f"{ok} ok, {failed} FAILED, in {time.monotonic() - start:.0f} s")
    return 1 if failed else 0


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Split the arguments at --."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:at], arguments[at + 1 :]


def _lines(tried: Trial) -> tuple[str, str]:
    own = tried.attacked
    figures = (
        f"{tried.attack.name:<22} {own['calls']:>15} {sum(own['failed'].values()):>6} "
        f"{own['p50']:>6.1f} {own['p99']:>6.0f} {own['max']:>6.0f} {tried.idle['p99']:>8.1f}   "
        f"{tried.before // _MB:>9} {tried.peak // _MB:>5} {tried.after // _MB:>5} "
        f"{tried.settled:>5.1f}"
    )
    verdict = f"FAILED: {'; '.join(tried.wrong)}" if tried.wrong else "ok"
    return f"{figures}  {verdict}", f"    {tried.did}"


if __name__ == "__main__":
    sys.exit(main())
