"""The command line, `threadbus`: one verb for each thing to do on a server.

Verbs are imported when they are used, so that saying how they are used costs next to nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from io import StringIO, TextIOWrapper

import click

from bus_client.cli.streams import complain, discard_stdout, open_standard_streams
from bus_client.cli.text import dumps, safe, safe_lines

# Verb → (module, name of its click command, what it does in a line).
_VERBS = {
    "serve": ("bus_server.__main__", "main", "Run a server."),
    "demo": (
        "bus_client.cli.demo.command",
        "demo",
        "Watch three agents talk, and one of them crash.",
    ),
    "thread": ("bus_client.cli.threads", "thread", "Create, list, show, close, open, … threads."),
    "register": ("bus_client.cli.agents", "register", "Register an agent, or find it registered."),
    "agents": ("bus_client.cli.agents", "agents", "List the registered agents."),
    "join": ("bus_client.cli.reading", "join", "Enter a thread: what it is, and where you are."),
    "post": ("bus_client.cli.posting", "post", "Post a message to a thread."),
    "read": ("bus_client.cli.reading", "read", "Read messages without waiting."),
    "wait": ("bus_client.cli.waiting", "wait", "Wait for what you have not read yet."),
    "tail": ("bus_client.cli.tailing", "tail", "Watch threads until you are tired of it."),
    "import": ("bus_client.cli.transfer.importing", "import_", "Post the messages in a file."),
    "export": (
        "bus_client.cli.transfer.exporting",
        "export",
        "Write threads as JSON lines or Markdown.",
    ),
    "bench": ("bus_client.cli.bench.command", "bench", "Measure a server: posts and wake-ups."),
    "doctor": ("bus_client.cli.doctor.command", "doctor", "Check a server and this machine."),
    "proto": ("bus_client.cli.proto", "proto", "Write the .proto files for other languages."),
}


class _Verbs(click.Group):
    """The verbs, each imported when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _VERBS:
            return None
        module, name, _ = _VERBS[cmd_name]
        command: click.Command = getattr(import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(verb, what) for verb, (_, _, what) in _VERBS.items()])


@click.group(
    cls=_Verbs,
    subcommand_metavar="VERB …",
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
)
@click.version_option(package_name="threadbus", message="%(prog)s %(version)s")
def _threadbus() -> None:
    """A durable message bus for agents: post to threads, and be woken by what is posted.

    \b
    Try it:
      threadbus demo

    \b
    Or do it yourself, in two terminals:
      threadbus serve
      threadbus post design "hello reviewer" --as coder
      threadbus wait design --as reviewer

    \b
    An agent's whole loop, for what is said to it, until an hour passes in silence:
      threadbus register reviewer; threadbus join design --as reviewer
      while news=$(threadbus wait design --as reviewer --mine --timeout 3600 --json); do
        my-model <<<"$news" | threadbus post design - --as reviewer
      done

    `threadbus VERB --help` has an example of each. Data goes to stdout, all else to stderr. A TIME
    is in seconds, or has a unit: 90, 10m, 36h, 30d.

    \b
    Environment:
      THREADBUS_SERVER       the server, HOST, HOST:PORT or unix:PATH (127.0.0.1:7420)
      THREADBUS_AGENT        who you are; --as
      THREADBUS_TOKEN        your token, instead of the one that is kept for you
      THREADBUS_CREDENTIALS  the file your tokens are kept in
      THREADBUS_THREAD       the thread, where none is named
      NO_COLOR               any value: no colours

    \b
    Exit codes:
      0 done             1 failed           2 wrong usage      3 nothing new
      4 unreachable      5 conflict, or the thread is closed   6 denied, or a limit
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; answers its exit code."""
    open_standard_streams()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if sys.stdout is None:  # closed by the shell
        complain("threadbus: standard output is closed.")
        return 1
    try:
        _check_encoding(arguments)
        code = _threadbus.main(arguments, prog_name="threadbus", standalone_mode=False)
    except click.Abort:
        return 130
    except click.ClickException as error:
        _tell(error, as_json="--json" in arguments)
        return error.exit_code
    except OSError as error:  # the help or the version could not be written
        discard_stdout()
        complain(f"threadbus: {error}")
        return 1
    except Exception as error:  # noqa: BLE001 - what nobody has thought of
        _tell_bug(error, as_json="--json" in arguments)
        return 1
    return code if isinstance(code, int) else 0


def _check_encoding(arguments: Sequence[str]) -> None:
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise click.UsageError(f"{argument!a} is not UTF-8.") from None


def _tell(error: click.ClickException, *, as_json: bool) -> None:
    usage = isinstance(error, click.UsageError)
    if as_json:
        context = error.ctx if isinstance(error, click.UsageError) else None
        path = context.command_path if context else "threadbus"
        document = {
            "code": "INVALID_ARGUMENT" if usage else "FAILED_PRECONDITION",
            "reason": "USAGE" if usage else "",
            "message": error.format_message(),
            "hint": f"See {path} --help." if usage else "",
            "retryable": False,
        }
        complain(dumps(document))
    elif usage:
        shown = StringIO()
        error.show(shown)
        _echo_lines(shown.getvalue())
    else:
        complain(f"threadbus: {safe(error.format_message())}")


def _tell_bug(error: Exception, *, as_json: bool) -> None:
    """Says what happened. The traceback may hold what a peer wrote, and is made safe, too."""
    what = f"{type(error).__name__}: {error}"
    hint = "This is a bug in threadbus. Please report it, with what stands above."
    if as_json:
        document = {
            "code": "INTERNAL",
            "reason": "",
            "message": what,
            "hint": "This is a bug in threadbus. Please report it; without --json it says more.",
            "retryable": False,
        }
        complain(dumps(document))
        return
    import traceback  # nothing that --help should pay for

    _echo_lines("".join(traceback.format_exception(error)))
    complain(f"threadbus: {safe(what)}")
    complain(f"  {hint}")


def _echo_lines(text: str) -> None:
    for line in safe_lines(text.rstrip("\n")):
        complain(line)
