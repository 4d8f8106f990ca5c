"""Small disks in memory, for one test each."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def small_disk(where: Path, *, megabytes: int) -> Iterator[Path]:
    """Mount a file system of this many megabytes. Skips the test where that is not permitted."""
    where.mkdir()
    _mount("-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(where))
    try:
        yield where
    finally:
        subprocess.run(["umount", "--lazy", str(where)], check=True)


def make_read_only(disk: Path) -> None:
    """Make a file system read-only."""
    _mount("-o", "remount,ro", str(disk))


@contextlib.contextmanager
def unchangeable(folder: Path) -> Iterator[None]:
    """Make a folder immutable, even for root. Skips the test where that is not permitted."""
    if subprocess.run(["chattr", "+i", str(folder)], capture_output=True, check=False).returncode:
        pytest.skip("this file system has no immutable folders")
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", str(folder)], check=True)


def _mount(*options: str) -> None:
    try:
        done = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no `mount` here")
    if done.returncode != 0:
        pytest.skip(f"mounting is not permitted: {done.stderr.strip()}")


def fill(disk: Path) -> Path:
    """Fill the disk. Returns the file that does."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as opened:
        with contextlib.suppress(OSError):
            while True:
                opened.write(bytes(64 * 1024))
        with contextlib.suppress(OSError):
            while True:
                opened.write(bytes(512))
    return ballast
