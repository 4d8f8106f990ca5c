"""Builds and checks what a release publishes; see scripts/release."""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import versions
import wheels

ROOT = Path(__file__).parents[2]
OUT = ROOT / "dist"


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/release", description=__doc__)
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="only name what keeps the commit from being released",
    )
    dry = parser.parse_args().dry_run
    version = versions.version(ROOT)
    wrong = versions.disagreements(ROOT)
    objections = _objections(version)
    for each in objections:
        print(f"release: {each}", file=sys.stderr)
    if wrong or (objections and not dry):
        sys.exit("\n".join(f"release: {each}" for each in [*wrong, "nothing is built"]))
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    try:
        # At once: neither keeps two CPUs busy.
        with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor() as pool:
            python = pool.submit(_python, version, Path(scratch))
            here = _languages()
            python.result()
    except wheels.Refused as refused:
        sys.exit(f"release: {refused}")
    text = versions.notes(ROOT, version) or versions.notes(ROOT, "Unreleased")
    (OUT / "notes.md").write_text(text + "\n", "utf-8")
    _write_checksums()
    _say(f"threadbus {version} is in dist/, checked")
    if not dry:
        print(_commands(version, here))


def _objections(version: str) -> list[str]:
    """Return what keeps the commit from being released: one sentence each."""
    found = []
    if changed := _git("status", "--porcelain", "--untracked-files=no"):
        found.append(f"there are changes that are not committed:\n{changed}")
    if new := _git("ls-files", "--others", "--exclude-standard", "clients"):
        found.append(f"the packages would have files that are not committed:\n{new}")
    if _git("tag", "--list", f"v{version}"):
        found.append(f"there is a tag v{version}")
    if not versions.notes(ROOT, version):
        found.append(f"CHANGELOG.md has no section {version}")
    if versions.notes(ROOT, "Unreleased"):
        found.append("CHANGELOG.md has changes under Unreleased")
    found += [f"needs a checkout: {each}" for each in versions.source_installs(ROOT)]
    return found


def _python(version: str, scratch: Path) -> None:
    _say("the wheel and the source distribution")
    wheel, _ = wheels.build(ROOT, scratch, OUT)
    extras, sets = versions.extras(ROOT), versions.installs(ROOT)
    pythons = wheels.interpreters()
    tried = None
    for minor in wheels.MINORS:
        name = f"3.{minor}"
        if name not in pythons:
            _say(f"Python {name} is not installed here: not tried")
            continue
        _say(f"a clean environment of Python {name}")
        own = wheels.try_out(pythons[name], wheel, version, extras, sets, scratch / name)
        tried = tried or own
    if tried is None:
        raise wheels.Refused("there is no Python to install the wheel with")
    wheels.write_sbom(tried, ROOT, OUT / f"threadbus-{version}.cdx.json")


def _languages() -> list[str]:
    """Build and check the packages of the other languages. Returns those whose toolchain is here.

    Raises Refused if one is missing on CI.
    """
    here = []
    for language in sorted((ROOT / "scripts/languages").iterdir()):
        if "\n  package)" not in language.read_text("utf-8").replace("\npackage)", "\n  package)"):
            continue
        needs = subprocess.run([language, "needs"], capture_output=True, text=True)
        if needs.returncode:
            missing = f"the package for {language.name} needs {needs.stdout.strip()}"
            if os.environ.get("CI") == "true":
                raise wheels.Refused(missing)
            _say(f"{missing}: not built")
            continue
        _say(f"the package for {language.name}")
        wheels.run(language, "build")
        wheels.run(language, "package", OUT / language.name)
        here.append(language.name)
    return here


def _write_checksums() -> None:
    """Write SHA256SUMS, which `sha256sum --check` reads."""
    lines = [
        f"{hashlib.sha256(each.read_bytes()).hexdigest()}  {each.relative_to(OUT)}\n"
        for each in sorted(OUT.rglob("*"))
        if each.is_file()
    ]
    (OUT / "SHA256SUMS").write_text("".join(lines), "utf-8")


def _commands(version: str, here: list[str]) -> str:
    """Return the commands that publish what is in dist/, one a line."""
    upload = {
        "go": "# serve dist/go as the module proxy of threadbus.dev, which its go-import names",
        "java": "(cd dist/java && find . -name '*.jar' -o -name '*.pom' |"
        " xargs -n 1 gpg --armor --detach-sign && jar cMf ../java.zip dev)"
        "\n# upload dist/java.zip to Maven Central as a bundle",
        "rust": "cargo publish --manifest-path clients/rust/Cargo.toml"
        " --package threadbus-proto --package threadbus-client",
        "typescript": f"npm publish dist/typescript/threadbus-client-{version}.tgz",
    }
    return "\n".join(
        [
            f"git tag --sign v{version} --message 'ThreadBus {version}'",
            f"git push origin v{version}",
            f".tools/release/bin/twine upload dist/threadbus-{version}{{-*.whl,.tar.gz}}",
            *(upload[each] for each in here),
        ]
    )


def _git(*words: str) -> str:
    return wheels.run("git", *words, cwd=ROOT).strip()


def _say(what: str) -> None:
    print(f"── {what}", file=sys.stderr, flush=True)


main()
