"""Applies each sabotage to a copy of the tree and reports whether a test caught it."""

import argparse
import importlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import wakeups
from sabotage import Sabotage

ROOT = Path(__file__).parents[2]
#: The parts of the tree that tests need.
COPIED = (
    *("bus_client", "bus_server", "docs", "protos", "scripts", "tests"),
    *("pyproject.toml", "README.md"),
)

_MODULES = [
    importlib.import_module(file.stem)
    for file in sorted(Path(__file__).parent.glob("*.py"))
    if file.stem not in ("run", "sabotage")
]
SABOTAGES = [sabotage for module in _MODULES for sabotage in module.SABOTAGES]

_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)


class Tree:
    """The copy, in which one sabotage at a time is applied and reverted."""

    def __init__(self, path: Path) -> None:
        self.path = path
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                ignored = shutil.ignore_patterns("__pycache__", "node_modules")
                shutil.copytree(source, path / name, ignore=ignored)
            elif source.exists():
                shutil.copy(source, path / name)

    def broken(self, sabotage: Sabotage) -> dict[Path, str]:
        """Returns the changed files. Exits the program if a text does not occur exactly once."""
        files: dict[Path, str] = {}
        for edit in sabotage.edits:
            path = self.path / edit.file
            text = files.get(path) or path.read_text("utf-8")
            found = text.count(edit.text)
            if found != 1:
                sys.exit(
                    f'"{sabotage.name}": its text occurs {found} times in {edit.file}, not once; '
                    f"update it in scripts/mutants.d:\n\n{edit.text}"
                )
            files[path] = text.replace(edit.text, edit.instead)
        return files

    def test(self, tests: Sequence[str], *, timeout: float = 60) -> tuple[int, list[str], str]:
        """Run tests. Returns pytest's exit code, the tests that failed, and the output."""
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-q", "-rfE", "--tb=short", "--no-header"),
                *("-p", "no:cacheprovider", "-o", f"timeout={timeout}", *tests),
            ],
            cwd=self.path,
            # Ahead of the installed tree, for pytest and for the servers that the tests start.
            env=os.environ
            | {
                "PYTHONPATH": f"{self.path}{os.pathsep}{self.path / 'protos'}",
                "PYTHONDONTWRITEBYTECODE": "1",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, _FAILED.findall(done.stdout), done.stdout + done.stderr

    def try_out(self, sabotage: Sabotage) -> str:
        """Apply the sabotage, run its tests, revert it. Returns the verdict."""
        broken = self.broken(sabotage)
        whole = {path: path.read_text("utf-8") for path in broken}
        for path, text in broken.items():
            path.write_text(text, "utf-8")
        try:
            code, failed, output = self.test(["-x", *sabotage.tests], timeout=sabotage.timeout)
        finally:
            for path, text in whole.items():
                path.write_text(text, "utf-8")
        if code not in (0, 1) or (code == 1 and not failed):
            sys.exit(f'"{sabotage.name}": pytest did not run its tests (exit {code}):\n{output}')
        if failed:
            return f"caught by {failed[0]}"
        if " passed" not in output:
            return "not tried: its tests are skipped here"
        return "SURVIVED"


def main() -> int:
    parser = argparse.ArgumentParser(description="Checks that a test fails for each sabotage.")
    parser.add_argument("parts", nargs="*", help="only sabotages whose name contains one of these")
    parser.add_argument("--list", action="store_true", help="list the sabotages")
    arguments = parser.parse_args()
    chosen = [
        sabotage
        for sabotage in SABOTAGES
        if not arguments.parts or any(part in sabotage.name for part in arguments.parts)
    ]
    if arguments.list or not chosen:
        print(*(sabotage.name for sabotage in chosen or SABOTAGES), sep="\n")
        return 0 if arguments.list else 2
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        tree = Tree(Path(folder))
        for sabotage in (wakeups.CONTROL, *chosen):
            tree.broken(sabotage)  # find all outdated texts before running anything
        if not tree.try_out(wakeups.CONTROL).startswith("caught"):
            sys.exit("the tests do not use the copy: none fails with a server that cannot start")
        tests = sorted({test for sabotage in chosen for test in sabotage.tests})
        code, failed, output = tree.test(tests)
        if code != 0:
            sys.exit(f"the tests fail without any sabotage: {', '.join(failed)}\n{output[-2000:]}")
        counts: Counter[str] = Counter()
        for sabotage in chosen:
            began = time.monotonic()
            verdict = tree.try_out(sabotage)
            counts[verdict.split()[0]] += 1
            print(f"{sabotage.name}: {verdict} ({time.monotonic() - began:.0f} s)", flush=True)
    skipped = f", {counts['not']} not tried" if counts["not"] else ""
    survived = counts["SURVIVED"]
    print(f"{counts['caught']} caught, {survived} survived{skipped}")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
