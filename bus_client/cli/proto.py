"""`threadbus proto`."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import click

from bus_client.cli.options import json_option
from bus_client.cli.output import Output
from bus_client.cli.session import run_verb
from bus_client.cli.text import safe


@click.command()
@click.option(
    "--out",
    "folder",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="The folder for the files; created if needed. Without it, the files are only listed.",
)
@json_option
def proto(folder: Path | None, as_json: bool) -> int:
    """Write the .proto files from which clients in other languages are generated.

    Includes all files that they import, so that any protoc can compile them. For tools that do not
    read .proto files, descriptor_set.binpb has them compiled, with gRPC's health and reflection
    services.

    \b
    Example, for Go, into ./gen:
      threadbus proto --out protos
      mkdir -p gen
      module=threadbus.dev/gen/go/threadbus
      protoc -I protos --go_out=gen --go_opt=module=$module \\
        --go-grpc_out=gen --go-grpc_opt=module=$module protos/threadbus/v1/*.proto
    """
    out = Output(as_json)
    return run_verb(out, lambda: _write(folder, out))


def _write(folder: Path | None, out: Output) -> int:
    paths = []
    for path, source in sorted(_sources()):
        if folder is not None:
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
            paths.append(str(target))
        else:
            paths.append(path)
    out.show({"files": paths}, map(safe, paths))
    return 0


def _sources() -> Iterator[tuple[str, Traversable]]:
    """Yields each file, after its path relative to protoc's import path."""
    ours = files("threadbus.v1")
    for file in ours.iterdir():
        if file.name.endswith(".proto"):
            yield f"threadbus/v1/{file.name}", file
    yield "descriptor_set.binpb", ours / "descriptor_set.binpb"
    for package in _google().iterdir():
        for file in package.iterdir():
            if file.name.endswith(".proto"):
                yield f"google/{package.name}/{file.name}", file


def _google() -> Traversable:
    """Returns the folder with Google's protos: in the package, or beside it in a source tree."""
    package = files("threadbus")
    shipped = package / "third_party/google"
    if shipped.is_dir():
        return shipped
    return Path(str(package)).parent.parent / "third_party/google"
