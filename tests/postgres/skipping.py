"""Servers for tests that are skipped where there is no PostgreSQL."""

import contextlib
import os
from collections.abc import Iterator

import pytest

from tests.postgres import cluster


@contextlib.contextmanager
def running(**settings: str) -> Iterator[cluster.Cluster]:
    """Start a server, and remove it at the end.

    If there is no PostgreSQL, skips the test, or fails it on CI, where nothing may be missing.
    """
    with contextlib.ExitStack() as stack:
        try:
            started = stack.enter_context(cluster.running(**settings))
        except cluster.Missing as missing:
            if os.environ.get("CI"):
                pytest.fail(str(missing))
            pytest.skip(str(missing))
        yield started
