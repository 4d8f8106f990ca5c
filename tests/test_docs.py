"""What README and docs refer to exists. That what they show runs: test_docs_in_order.py."""

import ast
import re

from tests.shown import ROOT, page

README = page("README.md")


def test_the_readme_is_short() -> None:
    assert len(README.split()) < 800


def test_the_links_lead_somewhere() -> None:
    clients = (ROOT / "clients").glob("*/README.md")
    suite = ROOT / "tests/conformance/README.md"
    for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *clients, suite]:
        for link in re.findall(r"\]\((?!http)([^)#]+)", path.read_text("utf-8")):
            assert (path.parent / link).exists(), f"{path.name} links to {link}"


def test_every_test_that_the_guarantees_name_exists() -> None:
    existing = {
        f"{path.name}::{node.name}"
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }
    guarantees = (ROOT / "docs/guarantees.md").read_text("utf-8")
    named = set(re.findall(r"`(test_\w+\.py::\w+)`", guarantees))
    assert len(named) > 20
    assert not named - existing
