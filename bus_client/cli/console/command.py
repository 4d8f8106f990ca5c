"""`threadbus console`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from bus_client.address import whole_address
from bus_client.cli.console.site import Listen, Site
from bus_client.cli.options import as_option, timeout_option
from bus_client.cli.session import Session, on_server
from threadbus.extras import install_command


@click.command()
@click.option(
    "--listen",
    metavar="HOST:PORT",
    type=Listen(),
    default="127.0.0.1:7480",
    help="Where browsers reach it. Port 0: any free port.",
)
@click.option("--no-open", is_flag=True, help="Do not open the page in a browser.")
@click.option(
    "--tls-cert",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The console's certificate, in PEM format, for HTTPS.",
)
@click.option(
    "--tls-key",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The key of --tls-cert.",
)
@click.option(
    "--insecure", is_flag=True, help="Allow HTTP beyond this machine: others can read it."
)
@click.option(
    "--public-url",
    metavar="URL",
    help="The address in browsers, if a reverse proxy is in front, such as "
    "https://bus.example.org/console/.",
)
@click.option("--while-stdin-is-open", "child", is_flag=True, hidden=True)
@click.option("--known-as", hidden=True)  # the server's address, if --server is a private one
@as_option
@timeout_option
@on_server
async def console(
    session: Session,
    listen: tuple[str, int],
    no_open: bool,
    tls_cert: Path | None,
    tls_key: Path | None,
    insecure: bool,
    public_url: str | None,
    child: bool,
    known_as: str | None,
) -> None:
    """Show threads in a browser: follow what is said, and join in.

    Runs beside a server, as any client, and acts for one person: --as NAME. An operator registers
    people: `threadbus register NAME --human --token-file FILE`. Or give the operator's token once,
    with --as NAME: the console registers NAME, and keeps its token. With an operator's token and no
    name, the page has an operator's controls.

    Prints the address to open, whose end lets a browser in: keep it to yourself. `threadbus serve
    --console` starts a console with the server.

    \b
    Examples:
      threadbus console --as ann --token-file threadbus.db.operator-token
      threadbus console --as ann
      threadbus console --as ann --listen 0.0.0.0:7480 --tls-cert cert.pem --tls-key key.pem
    """
    site = Site.of(listen, tls_cert, tls_key, public_url, insecure=insecure)
    if session.agent is None and session.token is None:
        raise click.UsageError("Missing agent: add --as NAME, or an operator's token.")
    try:
        from bus_client.cli.console import serving
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"The console needs {error.name}, which comes with the extra `console`: "
            f"run {install_command('console')}"
        ) from None
    open_page = not no_open and sys.stdout.isatty()
    known_as = whole_address(known_as or session.server)
    await serving.serve(session, known_as, site, open_page=open_page, until_eof=child)
