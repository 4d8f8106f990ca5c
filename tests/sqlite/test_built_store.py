"""Stores that the benchmarks build without a server."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.shell import Shell

SCRIPT = Path(__file__).parents[2] / "scripts/bench.d/build_store.py"


@pytest.mark.slow
def test_a_store_that_is_built_is_as_one_of_a_server(tmp_path: Path) -> None:
    db, counts = tmp_path / "bus.db", ("--threads", "3", "--messages", "30")
    subprocess.run([sys.executable, SCRIPT, db, *counts], check=True, timeout=30)
    nobody = Shell("127.0.0.1:1", tmp_path)
    done = nobody.run("doctor", "--db", str(db), "--deep", "--timeout", "0", "--json")
    found = {check["name"]: check["status"] for check in done.json["checks"]}
    assert (found["database"], found["integrity"]) == ("ok", "ok"), done.out
    said = nobody.ok("backup", str(tmp_path / "copy"), "--db", str(db)).out
    assert "3 threads, 30 messages" in said
