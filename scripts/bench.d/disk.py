"""The disk alone: what one small synced write takes, at a given pace. Prints JSON.

    disk.py FOLDER COUNT PACE

Each write is a log frame of SQLite's, over a file that is there already, as a grown log is.
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
