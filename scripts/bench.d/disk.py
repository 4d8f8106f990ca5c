"""Measures the disk alone: the time of one small synced write, at a given pace. Prints JSON.

    disk.py FOLDER COUNT PACE

Each write has the size of a frame of SQLite's write-ahead log and overwrites part of the file, as
in a log that has reached its full size.
"""

import json
import os
import sys
import time
from pathlib import Path

_FRAME = b"x" * (4096 + 24)
_FRAMES = 1_000


def main() -> None:
    folder, count, pace = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    path = folder / "disk"
    path.write_bytes(_FRAME * _FRAMES)
    taken = []
    opened = os.open(path, os.O_WRONLY)
    try:
        os.fsync(opened)
        due = time.perf_counter()
        for number in range(count):
            time.sleep(max(due - time.perf_counter(), 0.0))
            due += pace
            began = time.perf_counter()
            os.pwrite(opened, _FRAME, number % _FRAMES * len(_FRAME))
            os.fdatasync(opened)
            taken.append(time.perf_counter() - began)
    finally:
        os.close(opened)
        path.unlink()
    print(json.dumps({"seconds": taken}))


if __name__ == "__main__":
    main()
