"""The release script's checks of versions, on copies of what it reads."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CHECK = """
import sys
from pathlib import Path
import versions
print(*getattr(versions, sys.argv[2])(Path(sys.argv[1])), sep="\\n")
"""

pytestmark = pytest.mark.slow


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the files of the checkout that have a version, or a text."""
    listed = ("git", "ls-files", "*.toml", "*.md", "*.xml", "*go.mod", "*package.json", "*LICENSE")
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in names.splitlines():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def disagreements(tree: Path) -> list[str]:
    return ask(tree, "disagreements")


def ask(tree: Path, function: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", CHECK, tree, function],
        cwd=ROOT / "scripts/release.d",
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split("\n")[:-1]


def test_all_manifests_and_pages_have_one_version(tree: Path) -> None:
    assert disagreements(tree) in ([], [""])


def test_each_place_with_another_version_is_named(tree: Path) -> None:
    project = tree / "pyproject.toml"
    other = re.sub('(?m)^version = ".*"', 'version = "9.9.9"', project.read_text())
    project.write_text(other)
    named = {line.split(" ")[0] for line in disagreements(tree)}
    assert named == {
        "clients/go/go.mod",
        "clients/java/README.md",
        "clients/java/pom.xml",
        "clients/rust/Cargo.toml",
        "clients/typescript/package.json",
        "docs/operations.md",
    }


def test_an_install_line_with_an_unknown_extra_is_named(tree: Path) -> None:
    readme = tree / "README.md"
    readme.write_text(readme.read_text().replace("[server]'", "[sever]'"))
    assert disagreements(tree) == ["README.md installs the extra sever, which there is not"]


def test_what_needs_a_checkout_is_named_until_it_says_what_a_registry_gives(tree: Path) -> None:
    page = tree / "README.md"
    page.write_text(page.read_text() + "uv tool install '.[server]'\n")
    number = len(page.read_text().splitlines())
    assert f"README.md:{number}: '.[server]'" in ask(tree, "source_installs")
    for page in (tree / "README.md", *(tree / "docs").rglob("*.md"), *tree.glob("clients/*/*.md")):
        page.write_text("`uv tool install 'threadbus[server]'`\n")
    assert ask(tree, "source_installs") in ([], [""])
