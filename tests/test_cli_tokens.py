"""`threadbus token`: tokens that permit less than everything."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.callers import operator
from tests.serving import ServerProcess
from tests.shell import Done, Shell

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, chosen_store: None) -> Iterator[ServerProcess]:
    """This module's server; tokens are required."""
    db = tmp_path_factory.mktemp("server") / "bus.db"
    with ServerProcess(db, "--auth", "required") as running:
        yield running


@dataclass(frozen=True, slots=True)
class WithToken:
    """A user whose environment has a token."""

    shell: Shell
    token: str

    def run(self, *arguments: str) -> Done:
        return self.shell.run(*arguments, env={"THREADBUS_TOKEN": self.token})

    def ok(self, *arguments: str) -> Done:
        done = self.run(*arguments)
        assert done.code == 0, done
        return done


@pytest.fixture
def boss(server: ServerProcess, tmp_path: Path) -> WithToken:
    """The operator of this module's server."""
    return WithToken(Shell(server.address, tmp_path / "boss"), operator(server).token)


def test_a_reader_reads_its_threads_and_posts_nothing(
    server: ServerProcess, boss: WithToken, name: str, tmp_path: Path
) -> None:
    own, other = f"{name}.own", f"{name}-other"
    for thread in (own, other):
        boss.ok("thread", "create", thread)
        boss.ok("post", thread, "hello")
    limits = ["--scope", "read", "--thread-prefix", f"{name}.", "--lifetime", "30d"]
    created = boss.ok("token", "create", name, *limits)
    secret = created.out.strip()
    assert f"of {name}: read, threads {name}.*, until " in created.err
    assert secret not in created.err
    reader = Shell(server.address, tmp_path / "reader")
    assert reader.run("login", env={"THREADBUS_TOKEN": secret}).out == f"{name}\n"
    assert reader.ok("thread", "list", "--as", name).out.split()[0] == own
    assert other not in reader.ok("thread", "list", "--as", name).out
    assert "hello" in reader.ok("read", own, "--as", name).out
    assert "hello" in reader.ok("wait", own, "--timeout", "5", "--as", name).out
    assert reader.ok("join", own, "--as", name).code == 0
    assert reader.run("join", f"{name}.new", "--as", name).code == 6
    refused = reader.run("post", own, "x", "--as", name)
    assert (refused.code, "scope `post`" in refused.err) == (6, True)
    hidden = reader.run("read", other, "--as", name)
    assert (hidden.code, f"no thread {other}" in hidden.err.lower()) == (1, True)
    shown = reader.ok("whoami", "--as", name)
    assert f"may: read; only threads {name}.*; until " in shown.out
    shown = reader.ok("whoami", "--as", name, "--json").json
    assert shown["thread_prefixes"] == [f"{name}."]
    assert shown["token_expire_time"]


def test_tokens_are_listed_and_revoked(
    server: ServerProcess, boss: WithToken, name: str, tmp_path: Path
) -> None:
    first = boss.ok("token", "create", name, "--json").json
    second = boss.ok("token", "create", name).out.strip()
    ids = [line.split()[0] for line in boss.ok("token", "list", "--agent", name).out.splitlines()]
    assert ids[1] == first["token"]["token_id"]
    assert first["secret"] not in boss.ok("token", "--json").out
    document = boss.ok("token", "list", "--agent", name, "--json").json
    assert [token["token_id"] for token in document["tokens"]] == ids
    assert boss.run("token", "revoke", ids[1]).code == 2  # no terminal to ask for confirmation
    assert boss.ok("token", "revoke", ids[1], "--yes").out == f"{ids[1]} revoked\n"
    agent = Shell(server.address, tmp_path / "agent")
    ended = agent.run("thread", "list", env={"THREADBUS_TOKEN": first["secret"]})
    assert (ended.code, "token" in ended.err) == (6, True)
    assert agent.run("thread", "list", env={"THREADBUS_TOKEN": second}).code == 0
    again = boss.run("token", "revoke", ids[1], "--yes")
    assert (again.code, "no token has this id" in again.err) == (2, True)


def test_an_operators_token(server: ServerProcess, boss: WithToken, tmp_path: Path) -> None:
    secret = boss.ok("token", "create", "--operator").out.strip()
    other = WithToken(Shell(server.address, tmp_path / "other"), secret)
    assert "operator" in other.ok("whoami").out
    assert "post, read, admin" in other.ok("whoami").out
    operators = other.ok("token", "list", "--agent", "operator").out
    assert "(operator)" in operators.splitlines()[0]


def test_an_agent_without_admin_creates_no_tokens(
    server: ServerProcess, boss: WithToken, name: str, tmp_path: Path
) -> None:
    secret = boss.ok("token", "create", name).out.strip()
    agent = WithToken(Shell(server.address, tmp_path / "agent"), secret)
    for call in (["token"], ["token", "create", "x"], ["token", "revoke", "0" * 16, "--yes"]):
        refused = agent.run(*call)
        assert (refused.code, "scope `admin`" in refused.err) == (6, True)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["x", "--operator"],
        ["Upper"],
        ["x", "--scope", "write"],
        ["x", "--lifetime", "0"],
        ["x", "--lifetime", "11000d"],
    ],
    ids=" ".join,
)
def test_wrong_usage(boss: WithToken, arguments: list[str]) -> None:
    assert boss.run("token", "create", *arguments).code == 2


def test_no_tokens_of_an_agent_is_exit_code_3(boss: WithToken, name: str) -> None:
    assert boss.run("token", "list", "--agent", name).code == 3
