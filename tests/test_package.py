"""What the wheel ships."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from this tree."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    (path,) = out.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.mark.slow
@pytest.mark.timeout(320)
def test_the_wheel_holds_stubs_protos_and_types(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    for proto in (ROOT / "protos/threadbus/v1").glob("*.proto"):
        stem = f"threadbus/v1/{proto.stem}"
        assert {f"{stem}.proto", f"{stem}_pb2.py", f"{stem}_pb2.pyi"} <= names
        if stem.endswith("_service"):
            assert {f"{stem}_pb2_grpc.py", f"{stem}_pb2_grpc.pyi"} <= names
    assert {f"{package}/py.typed" for package in ("threadbus", "bus_client")} <= names
    for proto in (ROOT / "third_party/google").rglob("*.proto"):
        assert f"threadbus/third_party/{proto.relative_to(ROOT / 'third_party')}" in names
    scripts = ("schema", "upgrade-2", "upgrade-3", "upgrade-4")
    assert {f"bus_server/store/{script}.sql" for script in scripts} <= names
    assert not any(name.startswith(("tests/", "scripts/")) for name in names)


@pytest.mark.slow
@pytest.mark.timeout(320)
def test_the_descriptor_set_describes_every_service(wheel: zipfile.ZipFile) -> None:
    described = descriptor_pb2.FileDescriptorSet.FromString(
        wheel.read("threadbus/v1/descriptor_set.binpb")
    )
    services = {service.name for file in described.file for service in file.service}
    ours = {"BusService", "ThreadService", "AgentService", "AdminService"}
    assert services == ours | {"Health", "ServerReflection"}
