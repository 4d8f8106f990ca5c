"""scripts/mutants: each mutant still fits the code that it breaks, and names tests that exist."""

import ast
import importlib
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def sabotages() -> Any:
    sys.path.insert(0, str(ROOT / "scripts/mutants.d"))
    try:
        run = importlib.import_module("run")
        return [*run.SABOTAGES, run.wakeups.CONTROL]
    finally:
        sys.path.pop(0)


@cache
def text_of(file: str) -> str:
    path = ROOT / file
    return path.read_text("utf-8") if path.is_file() else ""


def test_each_text_to_replace_occurs_once(sabotages: Any) -> None:
    stale = {
        (sabotage.name, edit.file)
        for sabotage in sabotages
        for edit in sabotage.edits
        if text_of(edit.file).count(edit.text) != 1
    }
    assert not stale


def test_each_test_to_run_exists(sabotages: Any) -> None:
    missing = set()
    for sabotage in sabotages:
        for test in sabotage.tests:
            file, _, name = test.partition("::")
            function = name.partition("[")[0]
            if not re.search(rf"def {function or 'test_'}", text_of(file)):
                missing.add((sabotage.name, test))
    assert not missing


@pytest.mark.slow
def test_each_mutant_is_a_program(sabotages: Any) -> None:
    """One that is not would count as caught, whatever its tests are worth."""
    broken = set()
    for sabotage in sabotages:
        changed: dict[str, str] = {}
        for edit in sabotage.edits:
            text = changed.get(edit.file, text_of(edit.file))
            changed[edit.file] = text.replace(edit.text, edit.instead)
        for file, text in changed.items():
            try:
                if file.endswith(".py"):
                    ast.parse(text)
            except SyntaxError as error:
                broken.add((sabotage.name, str(error)))
    assert not broken
