"""What a checkout says about its version and its installation."""

import re
import tomllib
from pathlib import Path
from typing import Any

#: Where the version is, beside pyproject.toml: each pattern is found at least once in its file.
PLACES = (
    ("clients/go/go.mod", r"threadbus\.dev/gen/go v(\S+)"),
    ("clients/java/pom.xml", r"<artifactId>threadbus-client</artifactId>\s*<version>(.+?)<"),
    ("clients/java/README.md", r"<artifactId>threadbus-client</artifactId>\s*<version>(.+?)<"),
    ("clients/rust/Cargo.toml", r'(?m)^version = "(.+?)"'),
    ("clients/rust/Cargo.toml", r'threadbus-client = .*version = "=(.+?)"'),
    ("clients/rust/Cargo.toml", r'threadbus-proto = .*version = "=(.+?)"'),
    ("clients/typescript/package.json", r'"version": "(.+?)"'),
)
#: A version in a text: `threadbus 1.2.3`, `threadbus==1.2.3`, `threadbus-client@1.2.3`.
NAMED = re.compile(r"\bthreadbus(?:-client|-proto)?(?: |==|@|:)v?(\d+\.\d+\.\d+)\b")
INSTALL = re.compile(
    r"(?:pip|pipx|uv tool) install (?:[^`\n]*? )?"
    r"'(?P<what>\.|\./threadbus|threadbus)\[(?P<extras>[a-z,]+)\]'"
)
#: What a page says to users of a checkout, and not to those of a registry.
FROM_A_CHECKOUT = re.compile(
    r"'\.\[[a-z,]+\]'|\binstall \./threadbus\b|-replace threadbus\.dev\S+"
    r"|npm install --install-links|path = \"threadbus\S+|`mvn install`"
)


def version(root: Path) -> str:
    """Return the version in pyproject.toml, which is that of the project."""
    return str(_project(root)["version"])


def extras(root: Path) -> set[str]:
    """Return the extras that users may install."""
    optional = _project(root)["optional-dependencies"]
    return set(optional) - {"dev"}


def disagreements(root: Path) -> list[str]:
    """Return a sentence for each place that has another version, or an unknown extra."""
    wanted = version(root)
    found = []
    for name, pattern in PLACES:
        versions = re.findall(pattern, (root / name).read_text("utf-8"))
        found += [
            f"{name} has the version {each}, not {wanted}" for each in set(versions) - {wanted}
        ]
        if not versions:
            found.append(f"{name} has no version: {pattern}")
    known = extras(root)
    for page in _pages(root):
        text, name = page.read_text("utf-8"), page.relative_to(root)
        versions = set(NAMED.findall(text)) - {wanted}
        found += [f"{name} names the version {each}, not {wanted}" for each in sorted(versions)]
        for line in INSTALL.finditer(text):
            unknown = set(line["extras"].split(",")) - known
            found += [f"{name} installs the extra {each}, which there is not" for each in unknown]
    text = (root / "LICENSE").read_text("utf-8")
    for copy in (root / "clients").glob("*/**/LICENSE"):
        built = {"node_modules", "target"} & set(copy.parts)
        if not built and copy.read_text("utf-8") != text:
            found.append(f"{copy.relative_to(root)} is not the project's LICENSE")
    return found


def notes(root: Path, name: str) -> str:
    """Return the text of the changelog's section of that name, empty if there is none."""
    changelog = (root / "CHANGELOG.md").read_text("utf-8")
    section = re.search(rf"(?ms)^## {re.escape(name)}\b[^\n]*\n(.*?)(?=^## |\Z)", changelog)
    return section[1].strip() if section else ""


def source_installs(root: Path) -> list[str]:
    """Return what README and docs say about an installation that needs a checkout, by line."""
    return [
        f"{page.relative_to(root)}:{number}: {found[0]}"
        for page in _pages(root)
        for number, line in enumerate(page.read_text("utf-8").splitlines(), start=1)
        for found in FROM_A_CHECKOUT.finditer(line)
    ]


def installs(root: Path) -> set[str]:
    """Return the sets of extras, such as `server,metrics`, that README and docs install."""
    return {
        line["extras"]
        for page in _pages(root)
        for line in INSTALL.finditer(page.read_text("utf-8"))
    }


def _project(root: Path) -> dict[str, Any]:
    return tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]


def _pages(root: Path) -> list[Path]:
    clients = root.glob("clients/*/README.md")
    return sorted([root / "README.md", *(root / "docs").rglob("*.md"), *clients])
