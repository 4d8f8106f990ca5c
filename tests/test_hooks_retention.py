"""What `threadbus hook` tells a model of threads that lose their oldest messages."""

from pathlib import Path

import pytest

from tests.blocking import until
from tests.hooks import Hooks
from tests.serving import ServerProcess
from tests.shell import Shell

pytestmark = pytest.mark.slow


@pytest.fixture
def hooks(server: ServerProcess, name: str, tmp_path: Path) -> Hooks:
    """The hooks of an agent, which takes part in the thread `name`."""
    shell = Shell(server.address, tmp_path)
    shell.ok("join", name, "--as", f"{name}-me")
    return Hooks(shell, f"{name}-me")


def keep(hooks: Hooks, name: str, first_seq: int, *limits: str) -> None:
    """Set the retention of the thread; return once its oldest entry is `first_seq`."""
    shell = hooks.shell
    shell.ok("thread", "update", name, *limits, "--as", f"{name}-me")
    shown = ("thread", "show", name, "--json")
    until(lambda: bool(shell.ok(*shown).json["first_seq"] == first_seq))


def test_it_counts_what_is_kept_and_says_that_older_ones_are_not(hooks: Hooks, name: str) -> None:
    for _ in range(30):
        hooks.shell.ok("post", name, "hello", "--as", f"{name}-coder")
    keep(hooks, name, 28, "--retain-messages", "4")  # with the entry about it
    assert hooks.reason("stop") == (
        f"ThreadBus: 3 unread in thread {name} from {name}-coder (older ones are not kept any "
        "more). Call bus_wait to read; decide yourself whether they concern your task."
    )
    assert hooks.run("stop") == {}
    hooks.shell.ok("post", name, "hello", "--as", f"{name}-coder")
    assert f"1 unread in thread {name} from {name}-coder. " in hooks.reason("stop")


def test_what_is_gone_is_no_news(hooks: Hooks, name: str) -> None:
    hooks.shell.ok("post", name, "hello", "--as", f"{name}-coder")
    keep(hooks, name, 3, "--retain-age", "0.000001")
    assert hooks.run("stop") == {}
    assert hooks.run("stop", "--wait", "0.3") == {}
