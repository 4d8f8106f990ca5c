"""What README and docs refer to exists. test_docs_in_order.py runs their examples."""

import ast
import re
from pathlib import Path

import click

from bus_client.cli import _threadbus
from tests.doc_examples import ROOT, page

README = page("README.md")
PACKAGES = ("bus_server", "bus_client", "protos/threadbus")
#: The pages about the code.
OF_THE_CODE = [
    *(ROOT / name for name in ("docs/architecture.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs/decisions").glob("*.md")),
]


def test_the_readme_is_short() -> None:
    assert len(README.split()) < 800


def test_every_link_has_a_target() -> None:
    clients = (ROOT / "clients").glob("*/README.md")
    suite = ROOT / "tests/conformance/README.md"
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *clients, suite]:
        for link in re.findall(r"\]\((?!http)([^)#]+)", path.read_text("utf-8")):
            assert (path.parent / link).exists(), f"{path.name} links to {link}"


def test_every_link_to_a_section_has_one() -> None:
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        links = re.findall(r"\]\((?!http)([^)#]*)#([^)]+)\)", path.read_text("utf-8"))
        for link, section in links:
            target = (path.parent / link) if link else path
            if target.suffix == ".md":
                assert section in _sections(target), f"{path.name} links to {link}#{section}"


def test_the_runbook_names_all_of_its_sections_at_its_beginning() -> None:
    contents, _, rest = page("docs/operations.md").partition("\n## ")
    sections = [_slug(title) for title in re.findall(r"^## (.+)", "## " + rest, re.MULTILINE)]
    assert re.findall(r"\]\(#([^)]+)\)", contents) == sections


def _sections(path: Path) -> set[str]:
    """Returns the anchors of a page's headings, as GitHub makes them."""
    found = re.findall(r"^#+ (.+)", path.read_text("utf-8"), re.MULTILINE)
    return {_slug(title) for title in found}


def _slug(title: str) -> str:
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title)
    return re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")


def test_every_picture_is_shown_and_described() -> None:
    shown = set[Path]()
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for words, link in re.findall(r"!\[([^\]]*)\]\((?!http)([^)]+)\)", path.read_text("utf-8")):
            assert len(words) > 10, f"{path.name}: {link} has no description"
            shown.add((path.parent / link).resolve())
    pictures = {path.resolve() for path in (ROOT / "docs/images").iterdir()}
    assert pictures == {path for path in shown if path.parent == ROOT / "docs/images"}
    assert max(path.stat().st_size for path in pictures) < 150_000


def test_the_verbs_and_options_named_in_the_docs_exist() -> None:
    """Of commands in backticks and in blocks, up to the first word that is no verb or option."""
    group, pages = click.Context(_threadbus), [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    named = 0
    for path in pages:
        text = path.read_text("utf-8").replace("\\\n", " ")
        for command in re.findall(
            r"(?:^\$ |`|^|&& )threadbus ([a-z][^`\n|;&<>]*)", text, re.MULTILINE
        ):
            verb, *words = command.split()
            found = _threadbus.get_command(group, verb)
            assert found is not None, f"{path.name}: threadbus {command}"
            if verb in ("hook", "serve"):  # have parsers of their own
                continue
            if (
                isinstance(found, click.Group)
                and words
                and (inner := found.get_command(group, words[0]))
            ):
                found = inner
            known = {name for each in found.params for name in (*each.opts, *each.secondary_opts)}
            options = {word.partition("=")[0] for word in words if re.match("--[a-z]", word)}
            assert options <= known | {"--help"}, f"{path.name}: threadbus {command}"
            named += len(options)
    assert named > 50


def test_the_files_named_by_the_pages_about_the_code_exist() -> None:
    folders = [ROOT, *(ROOT / package for package in PACKAGES)]
    names = {path.name for folder in (*PACKAGES, "tests") for path in (ROOT / folder).rglob("*.*")}
    for path in OF_THE_CODE:
        text = re.sub(r"\]\([^)]+\)", "", path.read_text("utf-8"))
        named = set(re.findall(r"(?<![\w./*-])[\w./]+\.(?:py|proto|sql|toml)\b", text))
        for name in named:
            there = any((folder / name).is_file() for folder in folders)
            assert there or name in names, f"{path.name} names {name}"


def test_the_members_named_by_the_pages_about_the_code_exist() -> None:
    members: dict[str, set[str]] = {}
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                if isinstance(node, ast.ClassDef):
                    members.setdefault(node.name, set()).update(
                        part.name
                        for part in node.body
                        if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)
                    )
    for path in OF_THE_CODE:
        named = re.findall(r"`([A-Z]\w+)\.([a-z_]\w+)`", path.read_text("utf-8"))
        for owner, member in named:
            assert member in members.get(owner, ()), f"{path.name} names {owner}.{member}"


def test_the_files_to_read_in_order_are_short_enough_for_an_afternoon() -> None:
    architecture = page("docs/architecture.md")
    files = re.findall(r"^\d+\. \[`([^`]+)`\]", architecture, re.MULTILINE)
    lines = sum(len(page(name).splitlines()) for name in files)
    assert len(files) == 10
    assert f"About {round(lines, -2):,} lines: an afternoon." in architecture


def test_every_test_named_by_the_guarantees_exists() -> None:
    existing = {
        f"{path.name}::{node.name}"
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }
    guarantees = (ROOT / "docs/guarantees.md").read_text("utf-8")
    named = set(re.findall(r"`(test_\w+\.py::\w+)`", guarantees))
    assert len(named) > 20
    assert not named - existing


def test_no_promise_is_stated_twice() -> None:
    rows = re.findall(r"^\| ([^|]+) \|", page("docs/guarantees.md"), re.MULTILINE)
    promises = [row for row in rows if row not in ("promise", "---")]
    assert len(promises) > 100
    assert sorted(promises) == sorted(set(promises))
