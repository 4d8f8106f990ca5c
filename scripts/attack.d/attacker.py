"""The process that runs an attack: attacker.py NAME PORT SECONDS.

It prepares, prints `ready`, waits for a line, attacks, and prints its result as JSON.
"""

import dataclasses
import json
import os
import resource
import sys

from catalogue import ATTACKS
from target import Target

#: Lower priority than the innocent agent on the same core, so that only the server can delay that.
_NICE = 10


def main() -> None:
    name, port, seconds = sys.argv[1:]
    os.nice(_NICE)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    def wait() -> None:
        print("ready", flush=True)
        if not sys.stdin.readline():
            sys.exit("standard input was closed before the attack")

    outcome = ATTACKS[name].run(Target(int(port), float(seconds), wait))
    print(json.dumps(dataclasses.asdict(outcome)), flush=True)
    # The connections close with the process; skip the orderly shutdown of the library.
    os._exit(0)


if __name__ == "__main__":
    main()
