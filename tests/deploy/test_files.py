"""The files in deploy/ are what their readers take, and agree with the server and each other."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from bus_server.__main__ import main
from bus_server.settings import Settings
from tests.deploy import ROOT, tool

DEPLOY = ROOT / "deploy"
CONTAINERFILE = (DEPLOY / "Containerfile").read_text()
KUBERNETES = ("kubernetes.yaml", "kubernetes-sqlite.yaml")


def linted(*command: str) -> None:
    """Run a linter, which has to find nothing."""
    run = [tool("deploy-linters"), *command]
    done = subprocess.run(run, cwd=DEPLOY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


def pods(name: str) -> list[dict[str, Any]]:
    """Returns the specifications of the pods in a file for Kubernetes."""
    specs = [document["spec"] for document in documents(name)]
    return [spec["template"]["spec"] for spec in specs if "template" in spec]


def settings_of(*flags: str, **variables: str) -> str:
    """Returns the settings of a server that is started with these, as it prints them."""
    done = CliRunner().invoke(main, [*flags, "--print-config"], env=variables)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.slow
def test_linters_find_nothing() -> None:
    linted("hadolint", "Containerfile")
    linted("check-jsonschema", "--builtin-schema=vendor.compose-spec", "compose.yaml")
    for name in KUBERNETES:
        linted("kubernetes-validate", "--strict", "--quiet", name)
    linted("yamllint", "--strict", "-d", "{extends: relaxed, rules: {line-length: disable}}", ".")


def test_docker_and_podman_leave_out_the_same_files() -> None:
    ignored = (ROOT / ".containerignore").read_text()
    assert (ROOT / ".dockerignore").read_text() == ignored
    copied = {
        source
        for line in re.findall(r"^COPY (?!--from)(.*)$", CONTAINERFILE, re.MULTILINE)
        for source in line.split()[:-1]
    }
    assert {line[1:] for line in ignored.splitlines() if line.startswith("!")} == copied


def test_the_servers_user_is_the_same_everywhere() -> None:
    (user,) = re.findall(r"^USER (\d+):\1$", CONTAINERFILE, re.MULTILINE)
    for name in KUBERNETES:
        (pod,) = pods(name)
        context = pod["securityContext"]
        assert {context[key] for key in ("runAsUser", "runAsGroup", "fsGroup")} == {int(user)}
        for container in pod["containers"] + pod.get("initContainers", []):
            limited = container["securityContext"]
            assert limited["readOnlyRootFilesystem"] and limited["capabilities"] == {
                "drop": ["ALL"]
            }
    assert f"chown {user} secrets/threadbus.toml" in (DEPLOY / "compose.yaml").read_text()


def test_each_file_leaves_more_time_to_drain_than_the_server_takes() -> None:
    drain = Settings().drain_timeout
    (compose,) = documents("compose.yaml")
    given = [float(compose["services"]["threadbus"]["stop_grace_period"].removesuffix("s"))]
    for name in KUBERNETES:
        (pod,) = pods(name)
        (server,) = pod["containers"]
        before = server.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        given.append(pod["terminationGracePeriodSeconds"] - before)
    unit = (DEPLOY / "threadbus.service").read_text()
    given += map(float, re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE))
    assert len(given) == 4
    assert min(given) >= drain + 10


def test_servers_take_the_flags_that_kubernetes_gives_them() -> None:
    for name, store in zip(KUBERNETES, ("postgresql://bus:secret@db.example/bus", ""), strict=True):
        (pod,) = pods(name)
        (server,) = pod["containers"]
        printed = settings_of(*server["args"], THREADBUS_STORE=store)
        assert 'auth = "required"' in printed
        ports = {port["name"]: port["containerPort"] for port in server["ports"]}
        assert f'"0.0.0.0:{ports["metrics"]}"' in printed
        assert f"THREADBUS_LISTEN=0.0.0.0:{ports['grpc']}" in CONTAINERFILE


def test_the_secrets_of_compose_are_made_by_the_commands_that_it_names(tmp_path: Path) -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    commands = [
        line
        for line in re.findall(r"^#   (.*)$", text, re.MULTILINE)
        if line.startswith(("mkdir", "password=", "printf"))
    ]
    subprocess.run(["sh", "-ec", "\n".join(commands)], cwd=tmp_path, check=True)
    (compose,) = documents("compose.yaml")
    assert {secret["file"] for secret in compose["secrets"].values()} == {
        str(path.relative_to(tmp_path)) for path in (tmp_path / "secrets").iterdir()
    }
    (tmp_path / "secrets/threadbus.toml").chmod(0o400)
    config, *flags = compose["services"]["threadbus"]["command"]
    mounted = Path(config.removeprefix("--config="))
    assert mounted.name in compose["services"]["threadbus"]["secrets"]
    printed = settings_of(f"--config={tmp_path / 'secrets' / mounted.name}", *flags)
    database = compose["services"]["postgres"]["environment"]
    user, name = database["POSTGRES_USER"], database["POSTGRES_DB"]
    assert re.search(rf'^store = "postgresql://{user}:\S+@postgres/{name}"', printed, re.MULTILINE)
