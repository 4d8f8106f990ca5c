"""bus_client.sync has the names, signatures and summaries of bus_client, and is generated."""

import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import bus_client
from bus_client import sync

CLASSES = ["BusClient", "ThreadHandle"]


def public(owner: type) -> dict[str, Any]:
    """Returns the public members of a class."""
    members = inspect.getmembers(owner)
    return {name: member for name, member in members if not name.startswith("_")}


def attributes(owner: type) -> dict[str, str]:
    """Returns the attributes that the docstrings of a class and its bases describe."""
    told: dict[str, str] = {}
    for base in owner.__mro__:
        section = re.search(r"^Attributes:\n(.*?)(^\S|\Z)", inspect.getdoc(base) or "", re.M | re.S)
        for name, text in re.findall(
            r"^    (\w+): (.*?)(?=^    \w|\Z)", section[1] if section else "", re.M | re.S
        ):
            told[name] = " ".join(text.split())
    return told


def members() -> list[tuple[str, str]]:
    """Returns each method and property of the async classes."""
    return [(name, member) for name in CLASSES for member in public(getattr(bus_client, name))]


def blocking(text: str) -> str:
    """Returns an async signature or sentence without asyncio."""
    text = text.replace("Async", "").replace("`async with`", "`with`")
    # Where an async method accepts both kinds of iterable, the sync one accepts the plain kind.
    return re.sub(r"(Iterable\[[^]]*\]) \| \1", r"\1", text)


def signatures(member: Any) -> Iterator[str]:
    """Yields the signature of a function, or of a property's getter and setter."""
    functions = (member.fget, member.fset) if isinstance(member, property) else (member,)
    for function in functions:
        yield str(inspect.signature(function)) if function is not None else ""


def first_line(member: object) -> str:
    return (inspect.getdoc(member) or "").split("\n")[0]


def test_these_names_are_public() -> None:
    assert sorted(sync.__all__) == sorted(CLASSES)
    for name in CLASSES:
        assert getattr(sync, name).__name__ == name


@pytest.mark.parametrize("name", CLASSES)
def test_the_sync_classes_have_the_same_members_and_no_others(name: str) -> None:
    original = getattr(bus_client, name)
    assert set(public(getattr(sync, name))) == set(public(original)) | set(attributes(original))


@pytest.mark.parametrize(("name", "member"), members())
def test_a_member_has_the_same_signature_and_the_same_first_sentence(
    name: str, member: str
) -> None:
    asynchronous = public(getattr(bus_client, name))[member]
    synchronous = public(getattr(sync, name))[member]
    assert type(synchronous) is type(asynchronous)
    assert [*signatures(synchronous)] == [blocking(text) for text in signatures(asynchronous)]
    assert first_line(synchronous) == blocking(first_line(asynchronous))
    assert not inspect.iscoroutinefunction(synchronous)
    assert not inspect.isasyncgenfunction(synchronous)


@pytest.mark.parametrize(("name", "member"), members())
def test_a_shortened_docstring_names_the_full_one(name: str, member: str) -> None:
    whole = inspect.getdoc(public(getattr(bus_client, name))[member]) or ""
    said = inspect.getdoc(public(getattr(sync, name))[member]) or ""
    if said != blocking(whole):
        assert said.endswith(f"See bus_client.{name}.{member}.")


def test_the_client_has_the_same_arguments() -> None:
    ours, theirs = (str(inspect.signature(m.BusClient)) for m in (sync, bus_client))
    assert ours == theirs
    assert first_line(sync.BusClient) == first_line(bus_client.BusClient)


def test_the_attributes_of_a_handle_are_described_in_the_same_words() -> None:
    told = attributes(bus_client.ThreadHandle)
    assert {"name", "created", "similar", "context", "participants", "info"} == set(told)
    for name, text in told.items():
        said = inspect.getdoc(getattr(sync.ThreadHandle, name)) or ""
        assert " ".join(said.split()) == text
    assert first_line(sync.ThreadHandle) == first_line(bus_client.ThreadHandle)


@pytest.mark.slow
def test_the_sync_classes_are_what_the_async_ones_generate() -> None:
    script = Path(__file__).parents[1] / "scripts/sync.d/generate.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_sync_classes_call_no_server_themselves() -> None:
    for path in Path(sync.__file__).parent.glob("*.py"):
        assert "grpc" not in re.findall(r"^(?:from|import) (\w+)", path.read_text("utf-8"), re.M)
