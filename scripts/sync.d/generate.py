"""Generates bus_client/sync/client.py and thread.py from the async classes.

Each public async method becomes a method that runs it on the shared event loop of
bus_client/sync/background.py. Only the signature and docstring of the async method are read; its
body is not translated, as tools such as unasync would do.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

CLIENT = Path(__file__).parents[2] / "bus_client"
#: By class: its module, and the attribute of the blocking class that holds the async object.
CLASSES = {"ThreadHandle": ("thread", "_thread"), "BusClient": ("client", "_client")}
#: By class: the modules with its base classes, whose methods are its own, too.
BASES = {"BusClient": ["agent_calls", "reading_calls"], "ThreadHandle": ["thread_calls"]}
#: By method: text that only the blocking method's docstring has.
NOTES = {
    "follow": "The generator is closed once nothing refers to it, such as after its `for` loop.\n"
    "If you keep it, close() it before the next follow() or wait().\n\n",
    "post_many": "`posts` is read in a worker thread.\n\n",
}
#: By method: the attribute of the async object that yields the items in batches.
BATCHES = {"follow": "_reader.follow", "inbox": "_reader.inbox", "post_many": "_post_many"}
POINTER = (
    "Its methods take the same arguments and raise the same exceptions as those of "
    "bus_client.{owner}, which documents them. bus_client.sync describes how they block."
)
IMPORTS = """
from typing import Self
from collections.abc import Generator, Iterable, Iterator, Mapping
from bus_client.sync.background import (
    assign, finish, in_worker_thread, iterate, iterate_batches, run
)
"""
Function = ast.FunctionDef | ast.AsyncFunctionDef


def blocking(text: str) -> str:
    """Returns a signature, sentence or example without the parts that only asyncio needs."""
    text = re.sub(r"(Iterable\[[^]]*\]) \| Async\1", r"\1", text)
    return re.sub(r"\bAsync(?=Generator|Iterator)|\bawait |\basync (?=with|for)", "", text)


def function(head: str, doc: str, body: str, decorator: str = "") -> str:
    """Returns the code of a function."""
    end = "\n" if "\n" in doc else ""
    return f'{decorator}\ndef {head}:\n    """{doc}{end}"""\n    {body}\n'


def passed(arguments: ast.arguments) -> Iterator[str]:
    """Yields the arguments with which the blocking method calls the async one."""
    for argument in arguments.args[1:]:
        either = argument.annotation and "AsyncIterable" in ast.unparse(argument.annotation)
        yield f"in_worker_thread(checked_several({argument.arg}))" if either else argument.arg
    yield from (f"{argument.arg}={argument.arg}" for argument in arguments.kwonlyargs)


def method(owner: str, node: Function) -> str:
    """Returns the blocking method or property for one of an async class."""
    inner = f"self.{CLASSES[owner][1]}"
    target, returned = f"{inner}.{node.name}", blocking(ast.unparse(node.returns or node))
    head = f"{node.name}({blocking(ast.unparse(node.args))}) -> {returned}"
    doc, _, rest = blocking(ast.get_docstring(node) or "").partition("\n\n")
    if rest:
        doc = f"{doc}\n\n{NOTES.get(node.name, '')}See bus_client.{owner}.{node.name}."
    decorator = "".join(f"@{ast.unparse(part)}" for part in node.decorator_list)
    if decorator == "@overload":
        return f"{decorator}\ndef {head}: ...\n"
    if decorator == "@property":
        return function(head, doc, f"return {target}", decorator)
    if decorator:  # a setter
        body = f'run(assign, {inner}, "{node.name}", {node.args.args[1].arg})'
        return f"{decorator}\ndef {head}:\n    {body}\n"
    arguments = [*passed(node.args)]
    if returned.startswith(("Generator", "Iterator")):
        batches = BATCHES.get(node.name)
        iterating = f"iterate_batches({inner}.{batches}" if batches else f"iterate({target}"
        call = f"{', '.join([iterating, *arguments])})"
    elif isinstance(node, ast.AsyncFunctionDef):
        run = "finish" if node.name == "close" else "run"
        call = f"{run}({', '.join([target, *arguments])})"
    else:
        call = f"{target}({', '.join(arguments)})"
    if returned in CLASSES:
        call = f"{returned}({call})"
    return function(head, doc, call if returned == "None" else f"return {call}")


def properties(doc: str, init: Function, inner: str) -> Iterator[str]:
    """Yields a property for each attribute that the class's docstring describes."""
    section = doc.partition("\nAttributes:\n")[2]
    for node in init.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Attribute):
            name, kind = node.target.attr, ast.unparse(node.annotation)
            if found := re.search(rf"^    {name}: (.*?)(?=^    \w|\Z)", section, re.M | re.S):
                body = f"return self.{inner}.{name}"
                description = inspect.cleandoc(found[1])
                yield function(f"{name}(self) -> {kind}", description, body, "@property")


def generate(owner: str) -> str:
    """Returns the module with the blocking class for the async class `owner`."""
    module, inner = CLASSES[owner]
    modules = [module, *BASES[owner]]
    trees = [ast.parse((CLIENT / f"{name}.py").read_text("utf-8")) for name in modules]
    source, *bases = (n for tree in trees for n in tree.body if isinstance(n, ast.ClassDef))
    functions = [n for n in source.body if isinstance(n, Function)]
    own = {n.name for n in functions}
    functions += [
        n for base in bases for n in base.body if isinstance(n, Function) and n.name not in own
    ]
    init = next(n for n in functions if n.name == "__init__")
    doc = ast.get_docstring(source) or ""
    first, second = doc.split("\n\n")[:2]
    parts = [f'"""{first}\n\n' + (f"{blocking(second)}\n\n" if second.startswith("  ") else "")]
    parts[0] += textwrap.fill(POINTER.format(owner=owner), 96) + '\n"""\n'
    if owner == "BusClient":
        made = f"Async{owner}(server, {', '.join([*passed(init.args)][1:])})"
        parts += [
            f"def __init__({ast.unparse(init.args)}) -> None:\n    self.{inner} = {made}\n",
            "def __enter__(self) -> Self:\n    self.connect()\n    return self\n",
            "def __exit__(self, *_: object) -> None:\n    self.close()\n",
        ]
    else:
        argument = inner[1:]
        parts.append(f"def __init__(self, {argument}: Async{owner}) -> None:\n")
        parts[-1] += f"    self.{inner} = {argument}\n"
    parts += properties(doc, init, inner)
    parts += [method(owner, n) for n in functions if not n.name.startswith("_")]
    body = "\n".join(parts).replace("\n", "\n    ")
    theirs = [n for tree in trees for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
    left_out = {f"bus_client.{name}" for name in ("thread", *itertools.chain(*BASES.values()))}
    imports = [ast.unparse(n) for n in theirs if getattr(n, "module", "") not in left_out]
    imports.append(f"from bus_client.{module} import {owner} as Async{owner}")
    imports += [f"from bus_client.sync.{CLASSES[o][0]} import {o}" for o in CLASSES if o != owner]
    return formatted(
        f'"""{owner} for programs without asyncio.\n\n'
        f'Generated by scripts/sync from bus_client/{module}.py; do not edit.\n"""\n'
        + "\n".join(imports)
        + f"{IMPORTS}\n\nclass {owner}:\n    {body}\n"
    )


def formatted(code: str) -> str:
    """Returns the code formatted by ruff, with sorted imports and without unused ones."""
    config = ["--config", "lint.isort.split-on-trailing-comma = false"]
    config += ["--config", "format.skip-magic-trailing-comma = true"]
    for command in (["check", "--select", "I,F401", "--fix"], ["format"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--quiet", *config]
        ruff += ["--stdin-filename", "bus_client/sync/client.py", "-"]
        code = subprocess.run(
            ruff, input=code, cwd=CLIENT.parent, stdout=subprocess.PIPE, text=True, check=True
        ).stdout
    return code


stale = False
for owner, (module, _) in CLASSES.items():
    path, code = CLIENT / "sync" / f"{module}.py", generate(owner)
    if path.read_text("utf-8") == code:
        continue
    if "--check" in sys.argv:
        stale = True
        print(f"{path.relative_to(CLIENT.parent)} is stale: run scripts/sync", file=sys.stderr)
    else:
        path.write_text(code, "utf-8")
sys.exit(stale)
