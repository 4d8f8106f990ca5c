"""`threadbus proto`."""

import os
import re
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

from tests.shell import Shell

ROOT = Path(__file__).parent.parent


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell("127.0.0.1:1", tmp_path)


def test_every_import_of_the_written_files_is_written_too(shell: Shell, tmp_path: Path) -> None:
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
    assert not imports - set(protos)


#: A protoc without protos of its own, as in minimal packages.
LEAN_PROTOC = "import sys; from grpc_tools._protoc_compiler import run_main as run; "
LEAN_PROTOC += "sys.exit(run([word.encode() for word in sys.argv]))"


@pytest.mark.slow
def test_the_helps_example_works_with_a_protoc_that_has_no_protos(
    shell: Shell, tmp_path: Path
) -> None:
    python, generators = ROOT / ".venv-protos/bin/python", ROOT / ".tools/go"
    if not (python.exists() and (generators / "protoc-gen-go-grpc").exists()):
        assert os.environ.get("CI") != "true"
        pytest.skip("protoc and Go's generators are not here: scripts/protos brings them")
    example = shell.ok("proto", "--help").out.partition("./gen:\n")[2].partition("Options:")[0]
    compiler = f"protoc() {{ {python} -c '{LEAN_PROTOC}' \"$@\"; }}\n"
    shell.script(f"cd {tmp_path}\nPATH={generators}:$PATH\n{compiler}{example}")
    (package,) = (tmp_path / "gen").iterdir()
    written = {path.name for path in package.iterdir()}
    assert {"message.pb.go", "bus_service.pb.go", "bus_service_grpc.pb.go"} <= written
    for stub in package.iterdir():
        assert stub.read_bytes() == (ROOT / "clients/go/gen/threadbus/v1" / stub.name).read_bytes()


def test_the_written_files_are_the_contract(shell: Shell, tmp_path: Path) -> None:
    shell.ok("proto", "--out", str(tmp_path))
    ours = [path.name for path in (ROOT / "protos/threadbus/v1").glob("*.proto")]
    assert "errors.proto" in ours
    for name in ours:
        path = f"threadbus/v1/{name}"
        assert (tmp_path / path).read_bytes() == (ROOT / "protos" / path).read_bytes()
    google = {path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("google/*/*.proto")}
    assert {f"google/rpc/{name}.proto" for name in ("status", "code", "error_details")} < google
    described = descriptor_pb2.FileDescriptorSet.FromString(
        (tmp_path / "descriptor_set.binpb").read_bytes()
    )
    there = {file.name: file for file in described.file}
    assert {f"threadbus/v1/{name}" for name in ours} | google <= set(there)
    assert {f"grpc/{name}.proto" for name in ("health/v1/health", "reflection/v1/reflection")} <= {
        *there
    }
    for file in described.file:
        assert any(location.leading_comments for location in file.source_code_info.location)
        assert all(field.json_name for message in file.message_type for field in message.field)


def test_without_a_folder_it_lists_what_it_would_write(shell: Shell, tmp_path: Path) -> None:
    listed = shell.ok("proto").out.splitlines()
    assert "google/rpc/status.proto" in listed
    assert "descriptor_set.binpb" in listed
    assert shell.ok("proto", "--json").json == {"files": listed}
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_reported(shell: Shell) -> None:
    done = shell.run("proto", "--out", "/proc/protos", "--json")
    assert (done.code, done.out) == (1, "")
    assert done.error["message"] == "No such file or directory: /proc/protos"
