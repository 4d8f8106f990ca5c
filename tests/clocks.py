"""Per-server wall clocks that tests can set; monotonic clocks are not affected."""

import contextlib
import shutil
import sqlite3
import struct
import subprocess
from pathlib import Path

import pytest

#: Overrides the C library: adds the file's content, in nanoseconds, to the wall clock.
_SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

static volatile int64_t *ahead;
static int (*real)(clockid_t, struct timespec *);

__attribute__((constructor)) static void start(void) {
    real = dlsym(RTLD_NEXT, "clock_gettime");
    int file = open(getenv("WALL_CLOCK"), O_RDONLY);
    void *mapped = mmap(0, sizeof *ahead, PROT_READ, MAP_SHARED, file, 0);
    if (mapped != MAP_FAILED) ahead = mapped;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    if (!real) start();
    int failed = real(clock, now);
    if (!failed && ahead && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t moment = now->tv_sec * 1000000000LL + now->tv_nsec + *ahead;
        now->tv_sec = moment / 1000000000;
        now->tv_nsec = moment % 1000000000;
    }
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec moment;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &moment);
    now->tv_sec = moment.tv_sec;
    now->tv_usec = moment.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *where) {
    struct timespec moment;
    clock_gettime(CLOCK_REALTIME, &moment);
    if (where) *where = moment.tv_sec;
    return moment.tv_sec;
}
"""

MINUTES, DAY = 600.0, 86_400.0


class WallClock:
    """The wall clock of processes started with this `environment`. It starts as the real one.

    Skips the test where there is no C compiler.
    """

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc")
        if compiler is None:
            pytest.skip("there is no C compiler here")
        self._file, source, shim = (folder / f"clock{end}" for end in ("", ".c", ".so"))
        self._file.write_bytes(bytes(8))
        source.write_text(_SHIM)
        build = [compiler, "-shared", "-fPIC", "-O1", "-o", str(shim), str(source), "-ldl"]
        subprocess.run(build, check=True)
        self.environment = {"LD_PRELOAD": str(shim), "WALL_CLOCK": str(self._file)}

    def set(self, ahead: float) -> None:
        """Set it this many seconds ahead of the real one; negative is behind."""
        with self._file.open("r+b", buffering=0) as opened:
            opened.write(struct.pack("q", round(ahead * 1e9)))


def change(db: Path, statement: str, *values: object) -> None:
    """Change the database of a stopped server."""
    with contextlib.closing(sqlite3.connect(db, isolation_level=None)) as opened:
        assert opened.execute(statement, values).rowcount == 1
