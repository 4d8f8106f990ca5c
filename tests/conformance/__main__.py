"""Runs every case in every language, and reports the results. See `scripts/conformance`."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from tests.conformance.cases import Case, load
from tests.conformance.driver import SharedDriver
from tests.conformance.languages import Language, languages
from tests.conformance.matrix import PAGE, Cell, page, rows
from tests.conformance.mixed import MIXED, mix
from tests.conformance.stage import own_server, stage
from tests.conformance.steps import play


def buildable(wanted: Sequence[str]) -> tuple[list[Language], list[Language]]:
    """Returns the requested languages, or all: those that are built, and those whose build fails.

    Prints which languages lack tools on this machine; on CI that is an error.
    """
    found, failing = [], []
    known = [language.name for language in languages()]
    if strangers := set(wanted) - set(known):
        raise click.UsageError(f"no language {', '.join(strangers)}; there are {', '.join(known)}")
    for language in languages():
        if wanted and language.name not in wanted:
            continue
        if missing := language.missing():
            click.echo(f"{language.name}: left out for want of {missing}", err=True)
            if os.environ.get("CI") == "true":
                sys.exit(1)
            continue
        try:
            language.build()
            found.append(language)
        except subprocess.CalledProcessError:
            click.echo(f"{language.name}: its build fails", err=True)
            failing.append(language)
    return found, failing


async def conform(
    language: Language, cases: Sequence[Case], tree: Path | None = None
) -> list[Cell]:
    """Return the result of each case in a language, with the server in `tree` if given."""
    cells = []
    cases = [case for case in cases if language.name not in case.without]
    click.echo(f"{language.name}: {len(cases)} cases", err=True)
    async with own_server(tree=tree) as server, SharedDriver(language.name) as shared:
        for case in cases:
            try:
                async with shared.case() as running, stage(case, running, server, tree) as ready:
                    await play(ready, case.steps)
                cells.append(Cell(language.name, case.name))
            except (AssertionError, TimeoutError) as error:
                cells.append(Cell(language.name, case.name, str(error) or repr(error)))
                click.echo(f"{language.name}: {case.name}: {error!s:.500}", err=True)
    return cells


async def together(here: Sequence[Language]) -> list[Cell]:
    """Return the results of the case with all languages in one thread."""
    names = [language.name for language in here]
    problem = ""
    click.echo("all languages at once", err=True)
    try:
        await mix(names)
    except (AssertionError, TimeoutError) as error:
        problem = str(error) or repr(error)
        click.echo(f"all at once: {problem}", err=True)
    return [Cell(name, MIXED, problem) for name in names]


@click.command()
@click.option("--language", "wanted", multiple=True, help="Only this one; repeat for several.")
@click.option("--case", "names", multiple=True, help="Only this case; repeat for several.")
@click.option("--write", is_flag=True, help="Write docs/conformance.md.")
def main(wanted: Sequence[str], names: Sequence[str], write: bool) -> None:
    """Run the conformance cases: each in each language, against real servers.

    `scripts/conformance breaks` shows that the cases can fail. The names of languages are those in
    scripts/languages, the names of cases those in docs/conformance.md.
    """
    everything = load()
    cases = [case for case in everything if not names or case.name in names]
    if unknown := set(names) - {name for name, _ in rows(everything)}:
        raise click.UsageError(f"there is no case {', '.join(sorted(unknown))}")
    if write and (wanted or names):
        raise click.UsageError("the page has all languages and cases: --write goes alone")
    here, failing = buildable(wanted)
    if write and len(here) < len(languages()):
        raise click.ClickException("the page has all languages, and not all are to be had here")
    cells = [
        Cell(language.name, case.name, "its build fails") for language in failing for case in cases
    ]
    for language in here if cases else ():
        cells += asyncio.run(conform(language, cases))
    if here and (not names or MIXED in names):
        cells += asyncio.run(together(here))
    failed = [cell for cell in cells if cell.problem]
    if not cells:
        click.echo("nothing was tried")
    click.echo(f"{len(cells) - len(failed)} of {len(cells)} as the cases say")
    if write:
        PAGE.write_text(page(everything, cells), "utf-8")
    sys.exit(1 if failed or not cells else 0)


if __name__ == "__main__":
    main(prog_name="scripts/conformance")
