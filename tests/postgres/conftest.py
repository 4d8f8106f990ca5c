"""Without psycopg, these tests cannot be imported: those of tests/store say so."""

import importlib.util
import os

if importlib.util.find_spec("psycopg") is None:
    assert not os.environ.get("CI"), "pip install 'psycopg[binary]'"
    collect_ignore_glob = ["test_*.py"]
