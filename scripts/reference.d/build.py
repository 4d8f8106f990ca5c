"""Builds the API reference as HTML; see scripts/reference."""

import inspect
import shutil
import sys
import warnings
from pathlib import Path

import contract
import pdoc

import bus_client
import bus_client.sync

ROOT = Path(__file__).parents[2]
OUT = ROOT / "build/reference"
INDEX = """<!doctype html><meta charset="utf-8"><title>ThreadBus: API reference</title>
<h1>ThreadBus: API reference</h1>
<ul>
<li><a href="bus_client.html">bus_client</a>: the Python SDK
<li><a href="bus_client/sync.html">bus_client.sync</a>: the same for programs without asyncio
<li><a href="contract.html">threadbus.v1</a>: the contract, its services, messages and enums
</ul>
"""


def main() -> None:
    # The names of bus_client are imported on first use: import all of them, or pdoc would not see
    # them. The types of the contract are left out: they have no docstrings, and contract.html
    # describes them.
    types = {name: getattr(bus_client, name) for name in bus_client.__all__}
    own = {name: each for name, each in types.items() if not hasattr(each, "DESCRIPTOR")}
    vars(bus_client).update(own)
    bus_client.__all__[:] = own
    _document_inherited(own)
    undescribed = [
        f"{name}.{member}"
        for name, owner in own.items()
        for member, each in inspect.getmembers(owner)
        if not member.startswith("_") and callable(each) and not inspect.getdoc(each)
    ] + [name for name, owner in own.items() if not owner.__doc__]
    if undescribed:
        sys.exit(f"reference: without a docstring: {', '.join(undescribed)}")
    shutil.rmtree(OUT, ignore_errors=True)
    warnings.simplefilter("error")
    pdoc.render.configure(docformat="google", show_source=False)
    pdoc.pdoc("bus_client", "bus_client.sync", output_directory=OUT)
    (OUT / "contract.html").write_text(contract.page(ROOT / contract.DESCRIPTORS), "utf-8")
    (OUT / "index.html").write_text(INDEX, "utf-8")
    print(f"reference: {OUT.relative_to(ROOT)}/index.html")


def _document_inherited(own: dict[str, object]) -> None:
    """Give public classes the methods of bases that are not public: pdoc would leave them out."""
    for each in own.values():
        if inspect.isclass(each):
            for base in each.__mro__[1:]:
                if base.__module__.startswith("bus_client.") and base.__name__ not in own:
                    for name, member in vars(base).items():
                        if not name.startswith("_") and name not in vars(each):
                            setattr(each, name, member)


main()
