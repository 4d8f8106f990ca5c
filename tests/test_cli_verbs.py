"""Every verb with --json: its document and exit codes. Other tests cover what each does."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus_client import credentials
from tests.callers import operator_token_file
from tests.serving import ServerProcess
from tests.shell import Done, Shell

pytestmark = [pytest.mark.slow, pytest.mark.asking_server]

#: By verb: arguments that succeed, for the agent `ME` in the thread `T`, and a key of its document.
VERBS: dict[str, tuple[str, str]] = {
    "agents list": ("agents list --as ME", "agents"),
    "agents waits": ("agents waits --token-file TOKEN", "waits"),
    "agents update": ("agents update --description reads --as ME", "description"),
    "agents goodbye": ("agents goodbye --as ME", "presence"),
    "agents rotate-token": ("agents rotate-token --as ME", "agent"),
    "agents kick": ("agents kick ME --token-file TOKEN", "presence"),
    "agents reset-token": ("agents reset-token ME --yes --token-file TOKEN", "agent"),
    "agents unregister": ("agents unregister ME --yes --as ME", "unregistered"),
    "bench": ("bench --seconds 0.02", "benchmarks"),
    "certs": ("certs FOLDER", "files"),
    "doctor": ("doctor", "checks"),
    "export": ("export T --out FILE", "threads"),
    "import": ("import LINES --token-file TOKEN", "posted"),
    "install": ("install gemini --dry-run", "steps"),
    "join": ("join T --as ME", "cursor"),
    "login": ("login --token-file OWN", "agents"),
    "post": ("post T hello --as ME", "recipients"),
    "proto": ("proto --out FOLDER", "files"),
    "read": ("read T", "messages"),
    "register": ("register ME", "name"),
    "requests": ("requests --as ME", "requests"),
    "status": ("status", "posted_per_second"),
    "tail": ("tail T", "seq"),
    "thread archive": ("thread archive T --as ME", "state"),
    "thread close": ("thread close T --as ME", "state"),
    "thread create": ("thread create T-2", "epoch"),
    "thread delete": ("thread delete T --yes --as ME", "deleted"),
    "thread leave": ("thread leave T --as ME", "left"),
    "thread list": ("thread list", "threads"),
    "thread open": ("thread open T --as ME", "state"),
    "thread show": ("thread show T", "participants"),
    "thread update": ("thread update T --stage review --as ME", "stage"),
    "token create": ("token create ME --token-file TOKEN", "secret"),
    "token list": ("token list --token-file TOKEN", "tokens"),
    "token revoke": ("token revoke ID --yes --token-file TOKEN", "revoked"),
    "top": ("top", "posted_per_second"),
    "withdraw": ("withdraw T 2 --as ME", "requests"),
    "whoami": ("whoami", "scopes"),
    "wait": ("wait T --as ME --timeout 5", "messages"),
}
#: Verbs that call no server, never end, or have no --json. They have tests of their own.
ELSEWHERE = {"serve", "demo", "mcp", "hook", "console", "backup", "restore", "vacuum", "copy"}
#: Verbs that print documents until they are stopped.
ENDLESS = {"tail", "top"}
#: Verbs that need no server.
LOCAL = {"certs", "install", "proto"}


@pytest.fixture
def shell(server: ServerProcess, tmp_path: Path) -> Shell:
    return Shell(server.address, tmp_path)


def arguments(verb: str, shell: Shell, name: str, token: Path) -> list[str]:
    """Return the verb's arguments, for the thread and the agent of this name."""
    lines = shell.home / "lines.jsonl"
    lines.write_text(json.dumps({"thread": name, "sender": name, "content": "hi"}) + "\n", "utf-8")
    tokens = shell.home / "data/threadbus/credentials.json"
    own = shell.home / "own.token"
    own.write_text(credentials.kept_token(tokens, shell.server, name) or "x" * 43, "utf-8")
    own.chmod(0o600)
    words = {
        "T": name,
        "T-2": f"{name}-2",
        "ME": name,
        "OWN": str(own),
        "TOKEN": str(token),
        "ID": "0" * 16,
        "FILE": str(shell.home / "out.jsonl"),
        "FOLDER": str(shell.home / "protos"),
        "LINES": str(lines),
    }
    return [words.get(word, word) for word in VERBS[verb][0].split()]


def listed(shell: Shell) -> Iterator[str]:
    """Yield every verb that the help lists."""
    for group in ([], ["thread"], ["agents"], ["token"]):
        text = shell.ok(*group, "--help").out
        _, _, listing = text.partition("\nCommands:\n" if group else "\nVerbs:\n")
        for line in listing.splitlines():
            if line.startswith("  ") and line[2] != " ":
                yield " ".join([*group, line.split()[0]])


def test_every_verb_is_in_the_table(shell: Shell) -> None:
    assert set(VERBS) | ELSEWHERE | {"thread", "agents", "token"} == set(listed(shell))


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_that_succeeds_prints_a_document(
    shell: Shell, server: ServerProcess, name: str, verb: str
) -> None:
    shell.ok("join", name, "--as", name, "--start", "first")
    shell.ok("post", name, "hello")
    shell.ok("register", f"{name}-2")
    shell.ok("post", name, "?", "--mention", f"{name}-2", "--ask", "--as", name)
    shell.ok("post", name, "?", "--mention", name, "--ask", "--as", f"{name}-2")
    boss = operator_token_file(server.db)
    call = [*arguments(verb, shell, name, boss), "--json"]
    if verb == "token revoke":
        created = shell.ok("token", "create", name, "--json", "--token-file", str(boss)).json
        call[call.index("0" * 16)] = created["token"]["token_id"]
    if verb in ENDLESS:
        with shell.start(*call) as process:
            assert process.stdout is not None
            document = json.loads(process.stdout.readline())
    else:
        done = shell.run_process(*call)
        assert (done.code, done.err) == (0, "")
        document = done.json
    assert VERBS[verb][1] in document


@pytest.mark.parametrize("verb", sorted(set(VERBS) - LOCAL))
def test_a_verb_without_a_server_is_exit_code_4(
    tmp_path: Path, server: ServerProcess, name: str, verb: str
) -> None:
    nobody = Shell("127.0.0.1:1", tmp_path)
    call = arguments(verb, nobody, name, operator_token_file(server.db))
    at = call.index("--timeout") if "--timeout" in call else len(call)
    call[at : at + 2] = ["--timeout", "0.2"]
    assert_reported(nobody.run(*call, "--json"), 4, "UNAVAILABLE", in_document=verb == "doctor")


@pytest.mark.parametrize("verb", sorted(set(VERBS) - LOCAL))
def test_a_verb_with_an_unknown_token_is_exit_code_6(
    shell: Shell, tmp_path: Path, name: str, verb: str
) -> None:
    token = tmp_path / "token"
    token.write_text("x" * 43, "utf-8")
    token.chmod(0o600)
    call = arguments(verb, shell, name, token)
    if "--token-file" not in call:
        call += ["--token-file", str(token)]
    code = 1 if verb == "doctor" else 6
    assert_reported(
        shell.run(*call, "--json"), code, "UNAUTHENTICATED", in_document=verb == "doctor"
    )


def assert_reported(done: Done, code: int, status: str, *, in_document: bool) -> None:
    """Check the exit code, and the reason: as an object on stderr, or in the document."""
    assert done.code == code, done
    if in_document:
        assert done.json["healthy"] is False
    else:
        assert done.out == ""
        assert done.error["code"] == status
