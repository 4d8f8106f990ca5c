"""The image is built by deploy/Containerfile, and a container of it serves, drains and goes on."""

import os
import shutil
import stat
from pathlib import Path

import pytest
import yaml

from tests.deploy import ROOT
from tests.deploy.containers import Container, Image
from tests.polling import until

OPERATOR = "threadbus.db.operator-token"


def new_volume(image: Image, path: Path) -> Path:
    """Returns a folder with the owner and mode that the image's has, as engines make a volume."""
    of_image = (image.root / image.config["WorkingDir"].lstrip("/")).stat()
    path.mkdir()
    path.chmod(stat.S_IMODE(of_image.st_mode))
    os.chown(path, of_image.st_uid, of_image.st_gid)
    return path


async def healthy(container: Container) -> None:
    """Wait until the image's health check passes."""
    how, *check = container.image.config["Healthcheck"]["Test"]
    assert how == "CMD"
    await until(lambda: container.exec(*check).returncode == 0, within=60)


# A build installs ThreadBus from the package registry, which takes a minute: so it is one test.
@pytest.mark.soak
@pytest.mark.sqlite
@pytest.mark.timeout(1200)  # on a busy machine, six minutes
async def test_the_image_does_what_its_file_promises(tmp_path: Path) -> None:
    try:
        image = Image.build(tmp_path / "image")
        await serves_drains_and_keeps_its_messages(image, new_volume(image, tmp_path / "1"))
        needs_tls_or_to_be_told_otherwise(image, new_volume(image, tmp_path / "2"))
        has_what_postgresql_needs(image, new_volume(image, tmp_path / "3"))
        await stays_down_beside_what_was_rescued(image, new_volume(image, tmp_path / "4"))
    finally:
        shutil.rmtree(tmp_path / "image", ignore_errors=True)  # 300 MB


async def serves_drains_and_keeps_its_messages(image: Image, volume: Path) -> None:
    with Container(image, volume, ("--insecure",)) as container:
        await healthy(container)
        post = ("threadbus", "post", "design", "hello")
        assert container.exec(*post).returncode == 6, "it needs a token"
        assert container.exec(*post, "--token-file", OPERATOR).returncode == 0
        code, log = container.stop()
        assert (code, "received SIGTERM: draining" in log) == (0, True)
    owners = {(file.stat().st_uid, file.stat().st_mode & 0o077) for file in volume.iterdir()}
    assert owners == {(10001, 0)}

    # As kubelet does with a new volume and fsGroup: the group gets all of the folder.
    volume.chmod(0o2770)
    with Container(image, volume, ("--insecure",)) as container:
        await healthy(container)
        read = container.exec("threadbus", "read", "design", "--token-file", OPERATOR)
        assert "hello" in read.stdout
        assert container.stop()[0] == 0

    # And with each volume, were fsGroupChangePolicy not OnRootMismatch.
    (volume / OPERATOR).chmod(0o660)
    with Container(image, volume, ("--insecure",)) as container:
        code, log = container.wait()
        assert (code, f"chmod 600 {OPERATOR}" in log) == (1, True), log


def needs_tls_or_to_be_told_otherwise(image: Image, volume: Path) -> None:
    with Container(image, volume) as container:
        code, log = container.wait()
    assert (code, "--insecure" in log) == (1, True), log


def has_what_postgresql_needs(image: Image, volume: Path) -> None:
    store = ("--store=postgresql://bus@127.0.0.1:1/bus", "--operator-token-file=token")
    with Container(image, volume, ("--insecure", *store)) as container:
        code, log = container.wait()
    assert (code, "onnection refused" in log) == (1, True), log


async def stays_down_beside_what_was_rescued(image: Image, volume: Path) -> None:
    """With the command and the flags of deploy/kubernetes-sqlite.yaml."""
    documents = yaml.safe_load_all((ROOT / "deploy/kubernetes-sqlite.yaml").read_text())
    (stateful,) = (each for each in documents if each["kind"] == "StatefulSet")
    (server,) = stateful["spec"]["template"]["spec"]["containers"]
    command, flags = tuple(server["command"]), tuple(server["args"])
    with Container(image, volume, flags, command) as container:
        await healthy(container)
        assert container.stop()[0] == 0
    (volume / "threadbus.db.rescued").touch()
    with Container(image, volume, flags, command) as container:
        code, log = container.wait()
    assert (code, "threadbus.db.rescued: see" in log) == (7, True), log
