"""`threadbus proto`."""

import re
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

from tests.shell import Shell

ROOT = Path(__file__).parent.parent


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell("127.0.0.1:1", tmp_path)


def test_every_import_of_what_is_written_is_written_too(shell: Shell, tmp_path: Path) -> None:
    out = tmp_path / "new/protos"
    written = shell.ok("proto", "--out", str(out)).out.splitlines()
    assert sorted(written) == sorted(str(path) for path in out.rglob("*") if path.is_file())
    protos = [path.relative_to(out).as_posix() for path in out.rglob("*.proto")]
    imports = {
        imported
        for proto in protos
        for imported in re.findall(r'^import "(.+)";', (out / proto).read_text(), re.MULTILINE)
    }
    assert "threadbus/v1/message.proto" in imports
    assert not {name for name in imports if not name.startswith("google/protobuf/")} - set(protos)


def test_what_is_written_is_the_contract(shell: Shell, tmp_path: Path) -> None:
    shell.ok("proto", "--out", str(tmp_path))
    ours = [path.name for path in (ROOT / "protos/threadbus/v1").glob("*.proto")]
    assert "errors.proto" in ours
    for name in ours:
        path = f"threadbus/v1/{name}"
        assert (tmp_path / path).read_bytes() == (ROOT / "protos" / path).read_bytes()
    for name in ("status", "code", "error_details"):
        assert (tmp_path / f"google/rpc/{name}.proto").is_file()
    described = descriptor_pb2.FileDescriptorSet.FromString(
        (tmp_path / "descriptor_set.binpb").read_bytes()
    )
    assert {f"threadbus/v1/{name}" for name in ours} <= {file.name for file in described.file}


def test_without_a_folder_it_lists_what_it_would_write(shell: Shell, tmp_path: Path) -> None:
    listed = shell.ok("proto").out.splitlines()
    assert "google/rpc/status.proto" in listed
    assert "descriptor_set.binpb" in listed
    assert shell.ok("proto", "--json").json == {"files": listed}
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_told(shell: Shell) -> None:
    done = shell.run("proto", "--out", "/proc/protos", "--json")
    assert (done.code, done.out) == (1, "")
    assert "/proc/protos" in done.error["message"]
