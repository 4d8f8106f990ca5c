"""`threadbus install`."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import click
from click.core import ParameterSource

from bus_client.cli.options import Duration, check_agent, connection_options
from bus_client.cli.output import Output
from bus_client.cli.session import run_verb
from bus_client.cli.streams import print_stderr
from bus_client.cli.text import dumps, safe, safe_lines
from bus_client.hosts import install as installing
from bus_client.hosts.install import Setup, Step
from bus_client.hosts.install_json import InstallError
from bus_client.hosts.table import HOSTS, Host
from threadbus.names import RESERVED, THREAD, THREAD_RULE

_LONGEST_WAIT = 86_400  # seconds
#: Variables that say where tokens, and what hooks have told, are kept. Not all hosts pass them on.
_PASSED_ON = ("THREADBUS_CREDENTIALS", "THREADBUS_STATE", "XDG_DATA_HOME", "XDG_STATE_HOME")


def _check_thread(_: click.Context, __: click.Parameter, thread: str | None) -> str | None:
    if thread is not None and not THREAD.fullmatch(thread):
        raise click.BadParameter(f"{thread!r} is not a valid name: {THREAD_RULE}.")
    return thread


def _with_connection_options(function: click.decorators.FC) -> click.decorators.FC:
    for option in reversed(connection_options):
        function = option(function)
    return function


@click.command()
@click.argument("host", metavar="HOST", type=click.Choice(list(HOSTS)))
@click.option(
    "--as",
    "agent",
    metavar="NAME",
    callback=check_agent,
    help="The agent's name. Default: HOST and the name of the folder, such as codex-my-app.",
)
@click.option(
    "--thread",
    metavar="THREAD",
    callback=_check_thread,
    help="The thread that the agent uses if it names none.",
)
@click.option(
    "--hooks",
    is_flag=True,
    help="Also run hooks: they tell the agent about unread messages when it is about to stop and "
    "after its tools, and tell others what it is doing.",
)
@click.option(
    "--wait",
    metavar="TIME",
    type=Duration(maximum=_LONGEST_WAIT),
    default=0.0,
    show_default=False,
    help="With --hooks: an agent that is about to stop first waits this long for a message, "
    "without using its model. By default it stops at once if there is none.",
)
@click.option(
    "--allow", is_flag=True, help="Also let the agent use all tools of ThreadBus without asking."
)
@click.option("--dry-run", is_flag=True, help="Only show what would be done.")
@click.option("--remove", is_flag=True, help="Remove what was installed: tools, hooks, permission.")
@click.option(
    "--snippet",
    is_flag=True,
    help="Only print six lines for your AGENTS.md that tell an agent how to work with others.",
)
@_with_connection_options
@click.pass_context
def install(
    context: click.Context,
    *,
    host: str,
    agent: str | None,
    thread: str | None,
    hooks: bool,
    wait: float,
    allow: bool,
    dry_run: bool,
    remove: bool,
    snippet: bool,
    server: str,
    token_file: Path | None,
    ca_file: Path | None,
    client_cert: Path | None,
    client_key: Path | None,
    as_json: bool,
) -> int:
    """Give a coding agent the tools to post to threads, read them, and wait.

    HOST is claude-code, codex, gemini, copilot, qwen, cursor, vscode or opencode. Run this in the
    folder of your project. It registers `threadbus mcp` with the host by the host's own command, or
    in its JSON file, where all else stays as it is. A file that is not understood, such as one with
    comments, is left alone; then you are shown what to add to it. Repeat it to change something. No
    server needs to run.

    \b
    Examples:
      threadbus install claude-code --thread design --dry-run
      threadbus install claude-code --thread design --hooks --allow
      threadbus install codex --as reviewer --hooks --wait 10m
      threadbus install codex --remove
      threadbus install codex --as reviewer --snippet >> AGENTS.md
    """
    if snippet and (dry_run or remove):
        raise click.UsageError("Use --snippet without --dry-run and --remove.")
    if wait and not hooks:
        raise click.UsageError("--wait needs --hooks: it is a hook that waits.")
    chosen = HOSTS[host]
    if hooks and chosen.hook_file is None:
        raise click.UsageError(f"{chosen.title} has no hooks that run a program: omit --hooks.")
    if agent in RESERVED:
        raise click.UsageError(f"--as: {agent} is a reserved name.")
    files = {
        "--token-file": token_file,
        "--ca-file": ca_file,
        "--client-cert": client_cert,
        "--client-key": client_key,
    }
    connection = [
        word for option, path in files.items() if path for word in (option, str(path.absolute()))
    ]
    if context.get_parameter_source("server") is not ParameterSource.DEFAULT:
        scheme, _, path = server.partition("unix:")
        if path and not scheme:
            server = f"unix:{Path(path).absolute()}"  # hosts start the bridge in other folders
        connection = ["--server", server, *connection]
    out = Output(as_json)

    def run() -> int:
        folder = Path.cwd()
        name = agent or installing.default_agent(chosen, folder)
        if snippet:
            lines = installing.snippet(name, thread)
            out.show({"snippet": "\n".join(lines)}, lines)
            return 0
        try:
            setup = Setup(
                agent=name,
                program=installing.program_path(),
                thread=thread,
                connection=connection,
                environment=_passed_on(),
                hooks=hooks,
                wait=wait,
                allow=allow,
                folder=folder,
                home=_home(),
            )
            act = installing.remove if remove else installing.install
            steps = act(setup, chosen, dry_run=dry_run)
        except InstallError as error:
            return _report(error, out)
        said = [] if remove else _to_do(setup, chosen)
        _show(out, chosen, setup, steps, said, dry_run=dry_run, removed=remove)
        return 0

    return run_verb(out, run)


def _home() -> Path:
    """Returns the user's home directory. Raises InstallError if there is none."""
    with suppress(RuntimeError):
        home = Path.home()
        if home.is_absolute():
            return home
    raise InstallError("The home directory is unknown: set HOME.")


def _passed_on() -> dict[str, str]:
    """Returns variables for the bridge and the hooks: absolute paths of this process's."""
    found = {name: os.environ.get(name, "") for name in _PASSED_ON}
    return {name: path for name, path in found.items() if Path(path).is_absolute()}


def _to_do(setup: Setup, host: Host) -> list[str]:
    said = installing.to_do(setup, host)
    if os.environ.get("THREADBUS_TOKEN"):
        said.append(
            "THREADBUS_TOKEN was not written down: store it with threadbus login, or add "
            "--token-file."
        )
    return said


def _report(error: InstallError, out: Output) -> int:
    """Print an error and what the user can add by hand. Returns the exit code."""
    if out.json:
        paste = f" Add: {error.paste}" if error.paste else ""
        raise click.ClickException(f"{error}{paste}")
    print_stderr(f"threadbus: {safe(str(error))}")
    if error.paste:
        print_stderr("  To do it by hand, add:")
        for line in safe_lines(error.paste):
            print_stderr(line)
    return 1


def _show(
    out: Output,
    host: Host,
    setup: Setup,
    done: list[Step],
    said: list[str],
    *,
    removed: bool,
    dry_run: bool,
) -> None:
    steps = []
    lines = []
    for step in done:
        kind = "command" if step.is_command else "file"
        shown: dict[str, object] = {kind: step.subject, "changes": step.changes}
        if dry_run and step.adds is not None:
            shown["adds"] = step.adds
        steps.append(shown)
        lines.append(_line(step, dry_run=dry_run))
        if dry_run and step.adds is not None and step.changes:
            lines += [f"  {key}: {dumps(value)}" for key, value in step.adds.items()]
    document: dict[str, object] = {"host": host.name, "dry_run": dry_run, "steps": steps}
    if not removed:
        document |= {"agent": setup.agent, "thread": setup.thread, "to_do": said}
        lines.append(f"agent: {setup.agent}")
    elif all(step.changes is False for step in done):
        said = [f"Nothing was installed for {host.title} in {setup.folder}, or for all folders."]
    out.show(document, [safe(line) for line in lines])
    for each in said:
        out.note(f"- {each}")


def _line(step: Step, *, dry_run: bool) -> str:
    if step.changes is False:
        return f"unchanged: {step.subject}"
    verb = "run" if step.is_command else "change"
    if dry_run:
        return f"would {verb}: {step.subject}"
    return f"{'ran' if step.is_command else 'changed'}: {step.subject}"
