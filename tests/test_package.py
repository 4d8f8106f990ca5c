"""The contents of the wheel, and the versions of the packages that it is tested with."""

import email
import json
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

from bus_server.store.sqlite.file import SCHEMA_VERSION
from threadbus.extras import install_command

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
    assert {"threadbus/limits.py", "threadbus/names.py"} <= names
    for proto in (ROOT / "third_party/google").rglob("*.proto"):
        assert f"threadbus/third_party/{proto.relative_to(ROOT / 'third_party')}" in names
    scripts = {str(path.relative_to(ROOT)) for path in (ROOT / "bus_server").rglob("*.sql")}
    upgrades = {script for script in scripts if "/sqlite/" in script}
    assert len(upgrades) == SCHEMA_VERSION  # the newest, and an upgrade to each but the first
    assert scripts <= names
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


@pytest.mark.slow
@pytest.mark.timeout(320)
def test_the_metadata_is_complete(wheel: zipfile.ZipFile) -> None:
    (path,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    told = email.message_from_bytes(wheel.read(path))
    assert told["Author"] == "The ThreadBus authors"
    versions = [each.rpartition(" :: ")[2] for each in told.get_all("Classifier", [])]
    assert told["Requires-Python"].removeprefix(">=") in versions
    needed = {re.split(r"[<>=; ]", each)[0] for each in told.get_all("Requires-Dist", [])}
    assert {"grpcio", "protobuf", "aiosqlite"} <= needed


@pytest.mark.slow
def test_without_the_server_extra_the_error_says_what_to_install() -> None:
    without = "import sys; sys.modules['aiosqlite'] = None; "
    program = without + "from bus_server.__main__ import main; main([])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "aiosqlite" in done.stderr
    assert install_command("server") in done.stderr


@pytest.mark.parametrize(
    ("origin", "source"),
    [
        ("file:///home/me/my%20threadbus", "/home/me/my threadbus"),
        ("file:///opt/threadbus-0.1.0-py3-none-any.whl", "/opt/threadbus-0.1.0-py3-none-any.whl"),
        ("https://example.org/threadbus.whl", "threadbus"),
        (None, "threadbus"),
    ],
)
def test_an_extra_is_added_from_where_the_package_came_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, origin: str | None, source: str
) -> None:
    metadata = tmp_path / "threadbus-9.9.9.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.4\nName: threadbus\nVersion: 9.9.9\n")
    if origin:
        (metadata / "direct_url.json").write_text(json.dumps({"url": origin, "dir_info": {}}))
    monkeypatch.syspath_prepend(tmp_path)
    assert install_command("server,metrics") == f"pip install '{source}[server,metrics]'"


def test_each_package_that_the_tests_need_is_pinned_once() -> None:
    def plain(name: str) -> str:
        return re.split("[^a-z0-9.-]", name.lower().replace("_", "-"), maxsplit=1)[0]

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    optional = project["optional-dependencies"]
    needed = [*project["dependencies"], *optional["server"], *optional["dev"]]
    pins = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pinned = [plain(pin.partition("==")[0]) for pin in pins]
    assert sorted(set(pinned)) == sorted(pinned)
    assert {plain(each) for each in needed} <= set(pinned)
