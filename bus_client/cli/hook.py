"""`threadbus hook`."""

from __future__ import annotations

import click

from bus_client.hosts import program


@click.command(add_help_option=False, context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def hook(arguments: tuple[str, ...]) -> int:
    """Run as a hook of a coding agent. Has its own parser, as it must not fail; see program."""
    return program.main(arguments)
