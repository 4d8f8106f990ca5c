"""The image of deploy/Containerfile and containers of it, without an engine and its registry.

buildah builds the image, step by step. Its base is this machine's Python, mounted, as the official
image cannot be fetched everywhere. bubblewrap then does what an engine does with the image's
configuration: user, environment, folder, volume, read-only root, and namespaces of its own, in
which the server is process 1. Both need root.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest

from tests.deploy import ROOT, tool

CONTAINERFILE = ROOT / "deploy/Containerfile"
_BASE = {
    "etc/passwd": "root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n",
    "etc/group": "root:x:0:\n",
}
_OF_THE_MACHINE = ("resolv.conf", "hosts", "nsswitch.conf", "ssl", "pip.conf", "ld.so.cache")


@dataclass(frozen=True, slots=True)
class Image:
    """An image that was built, and mounted at `root`."""

    root: Path
    #: As in Docker's format: User, Env, WorkingDir, Entrypoint, Healthcheck and so on.
    config: dict[str, Any]

    @classmethod
    def build(cls, folder: Path) -> Self:
        """Build it in a new folder. Skips the test where that is impossible; on CI it fails."""
        buildah = tool("buildah")
        if os.geteuid() != 0:
            pytest.skip("an image is built as root")
        # vfs copies files, and so leaves nothing mounted.
        storage = (f"--root={folder / 'storage'}", f"--runroot={folder / 'run'}")
        command = [buildah, *storage, "--storage-driver=vfs"]
        environment = os.environ | {"BUILDAH_ISOLATION": "chroot"}

        def run(*arguments: str) -> str:
            done = subprocess.run(
                [*command, *arguments], env=environment, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
            return done.stdout.strip()

        base = _base(folder / "base")
        version = CONTAINERFILE.read_text().split("ARG PYTHON=")[1].split()[0]
        run("build", "--quiet", f"--tag=docker.io/library/python:{version}", str(base))
        volumes = [f"--volume={source}:{target}:ro" for source, target in _mounts()]
        arguments = ("--format=docker", "--pull-never", *volumes, f"--file={CONTAINERFILE}")
        run("build", *arguments, "--tag=threadbus", str(ROOT))
        config = json.loads(run("inspect", "--type=image", "threadbus"))["Docker"]["config"]
        return cls(Path(run("mount", run("from", "--pull-never", "threadbus"))), config)

    @property
    def environment(self) -> dict[str, str]:
        return dict(pair.split("=", 1) for pair in self.config["Env"])


@dataclass(slots=True)
class Container:
    """A container of an image, with a volume. `command` stands in place of the entrypoint."""

    image: Image
    volume: Path
    flags: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    #: Of process 1, in this machine's numbers; 0: not started.
    pid: int = 0
    _process: subprocess.Popen[str] | None = field(default=None, init=False)

    def start(self) -> Self:
        """Start it, without waiting for the server."""
        config, folder = self.image.config, self.image.config["WorkingDir"]
        assert list(config["Volumes"]) == [folder]
        (user, group) = config["User"].split(":")
        mounts = [part for pair in _mounts() for part in ("--ro-bind", *map(str, pair))]
        told, tell = os.pipe()
        self._process = subprocess.Popen(
            [
                *(tool("bwrap"), "--unshare-pid", "--unshare-net", "--unshare-ipc"),
                *("--as-pid-1", "--die-with-parent", "--info-fd", str(tell)),
                *("--ro-bind", self.image.root, "/", *mounts, "--bind", self.volume, folder),
                *("--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"),  # noqa: S108
                *("--chdir", folder),
                *("setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups"),
                *("--no-new-privs", "--bounding-set=-all", "--"),
                *(self.command or config["Entrypoint"]),
                *self.flags,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.image.environment,
            pass_fds=[tell],
        )
        os.close(tell)
        with os.fdopen(told) as info:
            self.pid = json.load(info)["child-pid"]
        return self

    def exec(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in it, as `podman exec` does. Returns it when it has ended."""
        (user, group) = self.image.config["User"].split(":")
        return subprocess.run(
            [
                *("nsenter", f"--target={self.pid}", "--mount", "--net", "--pid", "--ipc"),
                *("--root", "--wd", "setpriv", f"--reuid={user}", f"--regid={group}"),
                *("--clear-groups", "--", *command),
            ],
            capture_output=True,
            text=True,
            env=self.image.environment,
        )

    def wait(self) -> tuple[int, str]:
        """Wait until it ends. Returns the exit code, and what it has logged."""
        assert self._process is not None
        log, _ = self._process.communicate(timeout=60)
        return self._process.returncode, log

    def stop(self) -> tuple[int, str]:
        """Send the image's stop signal to process 1, and wait as `wait` does."""
        os.kill(self.pid, signal.Signals[self.image.config["StopSignal"]])
        return self.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


def _mounts() -> list[tuple[Path, Path]]:
    """Returns what the base image has of this machine: the folder here, and there."""
    prefix = Path(sys.base_prefix)
    usr = (Path("/usr"), Path("/usr"))
    return [usr] if prefix.is_relative_to("/usr") else [usr, (prefix, Path("/usr/local"))]


def _base(folder: Path) -> Path:
    """Returns the folder from which the base image is built: all but what is mounted."""
    files = folder / "files"
    for name in ("usr", "etc", "tmp", "var/lib", "proc", "sys", "dev", "run", "opt"):
        (files / name).mkdir(parents=True)
    (files / "tmp").chmod(0o1777)
    for name in ("bin", "sbin", "lib", "lib64"):
        (files / name).symlink_to(f"usr/{name}")
    for name, content in _BASE.items():
        (files / name).write_text(content)
    for source in (Path("/etc") / name for name in _OF_THE_MACHINE):
        if source.is_dir():
            shutil.copytree(source, files / "etc" / source.name, ignore_dangling_symlinks=True)
        elif source.exists():
            shutil.copy(source, files / "etc" / source.name)
    (folder / "Containerfile").write_text(
        "FROM scratch\nCOPY files /\n"
        "ENV PATH=/usr/local/bin:/usr/bin:/usr/sbin LD_LIBRARY_PATH=/usr/local/lib\n"
    )
    return folder
