"""Runs every case in every language, and says how it went. `scripts/conformance` starts it."""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from tests.conformance.cases import Case, load
from tests.conformance.driver import driver
from tests.conformance.languages import Language, languages
from tests.conformance.matrix import PAGE, Cell, page
from tests.conformance.stage import own_server, stage
from tests.conformance.steps import play


async def conform(language: Language, cases: Sequence[Case], tree: Path | None) -> list[Cell]:
    """What became of each case in a language; a server of another tree than this one, if given."""
    cells = []
    async with own_server(tree=tree) as shared:
        for case in cases:
            # A driver of its own each: what one case leaves behind does not trouble the next.
            try:
                async with (
                    driver(language.name) as running,
                    stage(case, running, shared, tree) as ready,
                ):
                    await play(ready, case.steps)
                cells.append(Cell(language.name, case.name))
            except (AssertionError, TimeoutError) as error:
                cells.append(Cell(language.name, case.name, str(error) or repr(error)))
                click.echo(f"{language.name}: {case.name}: {error}", err=True)
    return cells


@click.command()
@click.option("--language", "wanted", multiple=True, help="Only this one; repeat for several.")
@click.option("--case", "names", multiple=True, help="Only this case; repeat for several.")
@click.option("--write", is_flag=True, help=f"Write {PAGE.name}.")
def main(wanted: Sequence[str], names: Sequence[str], write: bool) -> None:
    """Run the conformance cases: each in each language, against real servers."""
    cases = [case for case in load() if not names or case.name in names]
    cells: list[Cell] = []
    for language in languages():
        if wanted and language.name not in wanted:
            continue
        if missing := language.missing():
            click.echo(f"{language.name}: left out: {missing}", err=True)
            continue
        click.echo(f"{language.name} …", err=True)
        language.build()
        cells += asyncio.run(conform(language, cases, None))
    failed = [cell for cell in cells if cell.problem]
    click.echo(f"{len(cells) - len(failed)} of {len(cells)} as the cases say")
    if write:
        PAGE.write_text(page(load(), cells), "utf-8")
    sys.exit(1 if failed or not cells else 0)


if __name__ == "__main__":
    main()
