"""The command line, `threadbus`. Each verb is one operation.

A verb's module is imported only when the verb is used, so that `threadbus --help` is fast.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from io import StringIO, TextIOWrapper

import click

from bus_client.cli.groups import VerbGroup
from bus_client.cli.streams import discard_stdout, open_standard_streams, print_stderr
from bus_client.cli.text import dumps, os_error_text, safe, safe_lines

# Verb → (module, its click command, summary). Relative names are modules of this package.
_VERBS = {
    "serve": ("bus_server.__main__", "main", "Run a server."),
    "demo": (".demo.command", "demo", "Watch three agents talk while one of them crashes."),
    "thread": (".threads", "thread", "Create, list, show, update, close or delete threads."),
    "register": (".agents", "register", "Register an agent. Safe to repeat."),
    "agents": (".agents", "agents", "List agents and their waits; change or remove an agent."),
    "token": (".tokens", "token", "Create, list and revoke tokens."),
    "login": (".login", "login", "Store a token that an operator gave you."),
    "whoami": (".login", "whoami", "Show who you are at the server, and what you may do."),
    "join": (".reading", "join", "Join a thread; show it and your read position in it."),
    "post": (".posting", "post", "Post a message to a thread."),
    "read": (".reading", "read", "Read messages without waiting."),
    "wait": (".waiting", "wait", "Wait for messages that you have not read yet."),
    "requests": (".requests", "requests", "List who is asked for a reply, and has not answered."),
    "withdraw": (".requests", "withdraw", "Withdraw the requests of your message."),
    "tail": (".tailing", "tail", "Watch threads: print messages as they are posted."),
    "install": (".install", "install", "Give a coding agent the tools to post, read and wait."),
    "mcp": (".mcp.command", "mcp", "Serve the bus to a coding agent, over MCP."),
    "hook": (".hook", "hook", "Run as a hook of a coding agent: tell it of unread messages."),
    "console": (".console.command", "console", "Follow and join threads in a browser."),
    "import": (".transfer.importing", "import_", "Post the messages in a file of JSON lines."),
    "export": (".transfer.exporting", "export", "Write threads as JSON lines or Markdown."),
    "bench": (
        ".bench.command",
        "bench",
        "Measure how fast a server takes posts and wakes clients.",
    ),
    "status": (".status", "status", "Show how a server does."),
    "top": (".top", "top", "Show live how a server does."),
    "backup": (".maintenance.backup", "backup", "Write all that a store holds to one file."),
    "restore": (".maintenance.restore", "restore", "Make a store of a backup."),
    "copy": (".maintenance.copy", "copy", "Move a store between SQLite and PostgreSQL."),
    "vacuum": (".maintenance.vacuum", "vacuum", "Return unused space to the file system."),
    "doctor": (".doctor.command", "doctor", "Check a server and this machine."),
    "certs": (".certs", "certs", "Make certificates to try TLS with."),
    "proto": (".proto", "proto", "Write the .proto files for other languages."),
}


class _Verbs(VerbGroup):
    """The group of all verbs, each imported only when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _VERBS:
            return None
        module, name, _ = _VERBS[cmd_name]
        command: click.Command = getattr(import_module(module, __name__), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(verb, summary) for verb, (_, _, summary) in _VERBS.items()])


@click.group(
    cls=_Verbs,
    subcommand_metavar="VERB …",
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
)
@click.version_option(package_name="threadbus", message="%(prog)s %(version)s")
def _threadbus() -> None:
    """A durable message bus for agents: post to threads, and wait for what others post.

    \b
    Try it:
      threadbus demo

    \b
    Or use it yourself, in two terminals:
      threadbus serve
      threadbus post design "hello reviewer" --as coder
      threadbus wait design --as reviewer

    \b
    An agent's main loop. Ends if a wait fails, or returns nothing for an hour:
      threadbus register reviewer; threadbus join design --as reviewer
      while news=$(threadbus wait design --as reviewer --mine --timeout 3600 --json); do
        my-model <<<"$news" | threadbus post design - --as reviewer
      done

    Only a post with --reply-to SEQ answers a message that has the agent's name in expect_reply.

    `threadbus VERB --help` explains a verb, with examples. Data goes to stdout, everything else to
    stderr. A TIME is a number of seconds, or has a unit: 90, 10m, 36h, 30d.

    \b
    Environment:
      THREADBUS_SERVER       HOST, HOST:PORT or unix:PATH (default 127.0.0.1:7420);
                             tls:// or plaintext:// may precede HOST
      THREADBUS_AGENT        your name, as with --as
      THREADBUS_TOKEN        your token, instead of the one stored for you
      THREADBUS_CREDENTIALS  the file in which your tokens are stored
      THREADBUS_CA_FILE      CA certificates to trust, for TLS
      THREADBUS_CLIENT_CERT  your certificate, if the server requires one
      THREADBUS_CLIENT_KEY   its key
      THREADBUS_THREAD       the thread to use if none is named
      THREADBUS_STATE        the folder in which hooks keep what agents were notified of
      TRACEPARENT            the trace to continue, as in W3C's header: what you post has it
      NO_COLOR               no colours if this is set and not empty

    \b
    Exit codes:
      0  success
      1  failure
      2  wrong usage
      3  no messages, or no new ones
      4  the server cannot be reached, or cannot serve now
      5  a conflict, or the thread is closed
      6  permission denied, or a limit is reached
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Returns its exit code. Errors are printed to stderr, not raised.

    Args:
        arguments: The arguments after the program's name. None = those of the process.
    """
    open_standard_streams()
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # errors are reported here, in a sentence
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if sys.stdout is None:  # closed by the shell
        print_stderr("threadbus: standard output is closed.")
        return 1
    try:
        if arguments[:1] != ["hook"]:  # which must not fail
            _check_encoding(arguments)
        code = _threadbus.main(arguments, prog_name="threadbus", standalone_mode=False)
    except click.Abort:
        return 130
    except click.ClickException as error:
        _report(error, as_json="--json" in arguments)
        return error.exit_code
    except OSError as error:  # the help or the version could not be printed
        discard_stdout()
        print_stderr(f"threadbus: {os_error_text(error)}")
        return 1
    except Exception as error:  # noqa: BLE001 - a bug in this program
        _report_bug(error, as_json="--json" in arguments)
        return 1
    return code if isinstance(code, int) else 0


def _check_encoding(arguments: Sequence[str]) -> None:
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise click.UsageError(f"The argument {argument!a} is not UTF-8.") from None


def _report(error: click.ClickException, *, as_json: bool) -> None:
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
        print_stderr(dumps(document))
    elif usage:
        shown = StringIO()
        error.show(shown)
        _echo_lines(shown.getvalue())
    else:
        print_stderr(f"threadbus: {safe(error.format_message())}")


def _report_bug(error: Exception, *, as_json: bool) -> None:
    """Print an unexpected error; unless `as_json`, with its traceback and a request to report it.

    The text is escaped, as it may come from a peer.
    """
    message = f"{type(error).__name__}: {error}"
    if as_json:
        document = {
            "code": "INTERNAL",
            "reason": "",
            "message": message,
            "hint": "This is a bug in threadbus. Run it without --json and report the traceback.",
            "retryable": False,
        }
        print_stderr(dumps(document))
        return
    import traceback  # imported only when needed: --help must be fast

    _echo_lines("".join(traceback.format_exception(error)))
    print_stderr(f"threadbus: {safe(message)}")
    print_stderr("  This is a bug in threadbus. Please report it with the traceback above.")


def _echo_lines(text: str) -> None:
    for line in safe_lines(text.rstrip("\n")):
        print_stderr(line)
