"""The wheel and the source distribution: built, compared with the commit, and installed."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

#: Where the wheel has the files of folders of the repository.
PLACES = {
    "bus_client/": "bus_client/",
    "bus_server/": "bus_server/",
    "protos/threadbus/": "threadbus/",
    "third_party/google/": "threadbus/third_party/google/",
}
MINORS = range(11, 15)
UV = Path(sys.executable).with_name("uv")


class Refused(Exception):
    """What was built is not what a release may have; the text says why."""


def run(*command: str | Path, cwd: Path | None = None, **variables: str) -> str:
    """Return what the command prints. Raises Refused with all of that if it fails."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise Refused(f"{' '.join(map(str, command))}\n{done.stdout}")
    return done.stdout


def build(root: Path, scratch: Path, out: Path) -> tuple[Path, Path]:
    """Build both from the last commit into `out`, check them, and return their paths.

    Raises Refused if the source distribution builds another wheel than the checkout, byte by byte,
    or if either has other files than the commit.
    """
    tree = scratch / "tree"
    tree.mkdir()
    archive = scratch / "tree.tar"
    run("git", "archive", "--output", archive, "HEAD", cwd=root)
    with tarfile.open(archive) as files:
        files.extractall(tree, filter="data")
    epoch = run("git", "log", "-1", "--format=%ct", cwd=root).strip()
    build = (sys.executable, "-m", "build", "--no-isolation")
    run(*build, "--outdir", out, cwd=tree, SOURCE_DATE_EPOCH=epoch)
    run(*build, "--wheel", "--outdir", scratch, cwd=tree, SOURCE_DATE_EPOCH=epoch)
    [wheel], [source] = out.glob("*.whl"), out.glob("*.tar.gz")
    if wheel.read_bytes() != (scratch / wheel.name).read_bytes():
        raise Refused("the source distribution builds another wheel than the checkout")
    run(sys.executable, "-m", "twine", "check", "--strict", wheel, source)
    committed = set(run("git", "ls-tree", "-r", "--name-only", "HEAD", cwd=root).splitlines())
    _compare(source.name, _of_source(source), committed)
    expected = {
        there + name.removeprefix(here)
        for name in committed
        for here, there in PLACES.items()
        if name.startswith(here)
    }
    _compare(wheel.name, _of_wheel(wheel), expected)
    return wheel, source


def interpreters() -> dict[str, Path]:
    """Return the Pythons on this machine, by version: on the PATH, or in pyenv's folder."""
    found = {}
    for minor in MINORS:
        wanted = f"3.{minor}"
        pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
        on_path = shutil.which(f"python{wanted}")
        for each in [*([Path(on_path)] if on_path else []), *pyenv.glob(f"{wanted}.*/bin/python")]:
            code = "import sys, venv; print('%d.%d' % sys.version_info[:2])"
            try:
                if run(each, "-c", code).strip() == wanted:
                    found[wanted] = each
                    break
            except Refused:  # a shim of pyenv for a version that is not chosen
                continue
    return found


def try_out(
    python: Path, wheel: Path, version: str, extras: set[str], sets: set[str], environment: Path
) -> Path:
    """Install the wheel as users do, and use it. Returns the Python that has all the extras.

    First alone, for a client; then with `server`, for a server; then with all `extras`. Each of
    `sets`, such as `server,metrics`, can be installed beside the wheel. The dependencies are the
    newest that pyproject.toml allows.
    """
    run(UV, "venv", "--python", python, environment)
    own = environment / "bin/python"
    smoke = Path(__file__).with_name("smoke.py")
    install = (UV, "pip", "install", "--python", own)
    run(*install, wheel)
    run(own, "-I", smoke, version, "client", cwd=environment)
    for each in sorted(sets):
        run(*install, "--dry-run", f"{wheel}[{each}]")
    run(*install, f"{wheel}[server]")
    run(own, "-I", smoke, version, "server", cwd=environment)
    run(*install, f"{wheel}[{','.join(sorted(extras))}]")
    run(own, "-I", smoke, version, "all", cwd=environment)
    run(UV, "pip", "check", "--python", own)
    return own


def write_sbom(python: Path, root: Path, out: Path) -> None:
    """Write what is installed in that environment as CycloneDX, the same for the same versions."""
    for direct in python.parents[1].glob("lib/*/site-packages/threadbus-*/direct_url.json"):
        direct.unlink()  # it names a folder of this machine
    command = (sys.executable, "-m", "cyclonedx_py", "environment", "--output-reproducible")
    run(
        *command,
        "--pyproject",
        root / "pyproject.toml",
        "--mc-type",
        "application",
        "--output-format",
        "JSON",
        "--output-file",
        out,
        python,
    )
    components = {each["name"] for each in json.loads(out.read_text("utf-8"))["components"]}
    if not {"grpcio", "aiosqlite", "psycopg", "starlette"} <= components:
        raise Refused(f"the SBOM has only {', '.join(sorted(components))}")


def _of_source(source: Path) -> set[str]:
    with tarfile.open(source) as files:
        names = {each.name.split("/", 1)[1] for each in files.getmembers() if each.isfile()}
    return names - {"PKG-INFO"}


def _of_wheel(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as files:
        names = set(files.namelist())
    own = {name for name in names if ".dist-info/" in name}
    if not any(name.endswith("licenses/LICENSE") for name in own):
        raise Refused(f"{wheel.name} has no LICENSE")
    return names - own


def _compare(name: str, files: set[str], expected: set[str]) -> None:
    if files != expected:
        lacks, more = sorted(expected - files), sorted(files - expected)
        raise Refused(f"{name} lacks {lacks[:10]}, and has {more[:10]}, which the commit has not")
