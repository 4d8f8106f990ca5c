"""The contract stays compatible with the clients generated from it."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.slow


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the files that the generators use."""
    if not (ROOT / ".venv-protos").exists():
        subprocess.run([ROOT / "scripts" / "protos", "--check"], check=True)
    for name in ("protos", "third_party", "scripts"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("languages"))
    (tmp_path / "scripts" / "languages").mkdir()
    shutil.copy(ROOT / "buf.yaml", tmp_path)
    (tmp_path / ".venv-protos").symlink_to(ROOT / ".venv-protos")
    return tmp_path


def protos(tree: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run scripts/protos."""
    command = [str(tree / "scripts" / "protos"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("text", "instead", "said"),
    [
        ("string sender = 3;", "string author = 3;", 'changed name from "sender" to "author"'),
        ("int64 seq = 2;", "uint64 seq = 2;", 'changed type from "int64" to "uint64"'),
        ("string sender = 3;", "string sender = 93;", "deleted"),
        ("threadbus.dev/gen/go/threadbus/v1", "elsewhere/v1", "go_package"),
    ],
)
def test_a_breaking_change_is_refused(tree: Path, text: str, instead: str, said: str) -> None:
    file = tree / "protos/threadbus/v1/message.proto"
    file.write_text(file.read_text("utf-8").replace(text, instead, 1), "utf-8")
    before = (file.parent / "descriptor_set.binpb").read_bytes()
    for arguments in ([], ["--check"]):
        done = protos(tree, *arguments)
        assert done.returncode != 0
        assert said in done.stdout + done.stderr
        assert "breaks clients" in done.stderr
    assert (file.parent / "descriptor_set.binpb").read_bytes() == before


def test_a_new_field_is_accepted_and_requires_new_stubs(tree: Path) -> None:
    file = tree / "protos/threadbus/v1/message.proto"
    changed = file.read_text("utf-8").replace(
        "string sender = 3;", "string sender = 3;\n  // New.\n  string mood = 99;", 1
    )
    file.write_text(changed, "utf-8")
    assert "is stale: run scripts/protos" in protos(tree, "--check").stderr
    assert protos(tree).returncode == 0
    assert protos(tree, "--check").returncode == 0
