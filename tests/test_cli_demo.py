"""`threadbus demo`."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.shell import Shell

#: Seconds that a demo may take on a slow machine. It waits for states, and gives up by itself.
PATIENCE = 120
pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * PATIENCE)]


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell("127.0.0.1:1", tmp_path)


@pytest.fixture
def temporary(tmp_path: Path) -> Iterator[Path]:
    """A folder for the demo's temporary files. At the end it must be empty, and no process left."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    yield folder
    assert not list(folder.iterdir())
    assert not _processes_with(str(folder))


def _processes_with(text: str) -> list[str]:
    """Return the command lines of running processes that contain `text`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue  # the process has just ended
        if text in command:
            found.append(command)
    return found


#: Lines that the demo prints, in this order; there may be others in between.
SHOWN = [
    r"a server on 127\.0\.0\.1:\d+ ",
    r"coder \w+ +· reviewer waiting · tester waiting",
    r"^ #1 coder ",
    r"coder learns who will see it: reviewer \w+, tester waiting \(not for it\)",
    r"^ #2 reviewer ",
    r"^ #3 coder ",
    r"coder \w+ +· reviewer working · tester waiting",
    r"kill -9 \d+: the reviewer dies while thinking about #3",
    r"coder \w+ +· reviewer lapsed  · tester waiting",
    r"^ #4 coder ",
    r"coder learns who will see it: reviewer lapsed, tester waiting \(not for it\)",
    r"the reviewer restarts \(process \d+\): #2 was done, it resumes with #3",
    r"^ #5 reviewer ",
    r"^ #6 coder .* @tester",
    r"coder learns who will see it: tester waiting, reviewer \w+$",
    r"the tester slept .* #6 mentions it and wakes it",
    r"^ #7 tester ",
    r"the reviewer replies to #6, too: .* Refused: #7 came first",
    r"^ #8 reviewer ",
    r"^ #9 coder ",
    r"the lead asks the expert: “Can we release",
    r"ask\(\) returns #2: “Yes",
    r"kill -9 \d+: the expert dies before it answers",
    r"ask\(\) raises Unanswered: AGENT_LAPSED",
    r"SIGTERM",
    r"coder offline · reviewer offline · tester offline",
    r"✓ 9 messages, each once and in order",
    r"✓ the reviewer was killed while working on #3, and resumed with it",
    r"✓ the tester was woken once",
    r"✓ two replied to #6 at once",
    r"✓ one question was answered; the other is open",
    r"^Try it",
    r"^  threadbus serve ",
]


def test_the_demo_prints_all_that_the_docs_promise_within_a_page(
    shell: Shell, temporary: Path
) -> None:
    done = shell.run_process("demo", "--pace", "0", env={"TMPDIR": str(temporary)}, within=PATIENCE)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    rest = iter(lines)
    for pattern in SHOWN:
        assert any(re.search(pattern, line) for line in rest), f"{pattern}\nin\n{done.out}"
    messages = [line.split()[0] for line in lines if line.lstrip().startswith("#")]
    assert messages == [f"#{seq}" for seq in range(1, 10)]
    wide = [line for line in lines if len(line) > 80 and not line.startswith("Try it")]
    assert all("http://" in line for line in wide), wide
    assert "\x1b" not in done.out


def test_with_json_the_demo_prints_one_document_and_narrates_on_stderr(
    shell: Shell, temporary: Path
) -> None:
    env = {"TMPDIR": str(temporary), "THREADBUS_TOKEN": "x" * 32, "THREADBUS_AUTH": "required"}
    done = shell.run_process("demo", "--pace", "0", "--json", env=env, within=PATIENCE)
    assert done.code == 0
    assert [message["seq"] for message in done.json["messages"]] == list(range(1, 10))
    assert "reviewer lapsed" in done.err
    assert "the tester was woken once" in done.err
    assert not (shell.home / "data").exists()


def test_on_a_terminal_it_has_colours(shell: Shell, temporary: Path) -> None:
    code, shown = shell.on_terminal("demo", "--pace", "0", env={"TMPDIR": str(temporary)})
    assert (code, "reviewer lapsed" in shown) == (0, True)
    assert "\x1b[" in shown


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        ("three agents", signal.SIGINT),
        ("kill -9", signal.SIGTERM),
        ("reviewer restarts", signal.SIGINT),
    ],
)
def test_an_interrupted_demo_leaves_nothing_behind(
    shell: Shell, temporary: Path, moment: str, number: signal.Signals
) -> None:
    arguments = ["demo", "--pace", "0.2"]
    with shell.start(*arguments, env={"TMPDIR": str(temporary)}) as demo:
        assert demo.stdout is not None
        while moment not in (line := demo.stdout.readline()):
            assert line
        demo.send_signal(number)
        _, err = demo.communicate(timeout=PATIENCE)
    assert (demo.returncode, err) == (128 + number, "")


def test_a_demo_without_a_server_says_what_is_missing(shell: Shell, temporary: Path) -> None:
    missing = "raise ModuleNotFoundError('no aiosqlite', name='aiosqlite')"
    (shell.home / "aiosqlite.py").write_text(missing)
    env = {"PYTHONPATH": str(shell.home), "TMPDIR": str(temporary)}
    done = shell.run_process("demo", env=env)
    assert (done.code, done.out) == (1, "")
    assert "The demo failed: the server ended early." in done.err
    assert "pip install" in done.err
    assert "Traceback" not in done.err


def _sabotage(folder: Path, agent: str, code: str) -> dict[str, str]:
    """Return an environment in which an agent of the demo first runs this code."""
    condition = f"import sys\nif sys.orig_argv[-4:-3] == [{agent!r}]:\n"
    (folder / "sitecustomize.py").write_text(f"{condition}    {code}\n")
    path = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(path)}


def test_an_agent_that_exits_early_fails_the_demo_with_its_error(
    shell: Shell, temporary: Path
) -> None:
    dying = "import os; print('I cannot.', file=sys.stderr, flush=True); os._exit(1)"
    env = _sabotage(shell.home, "tester", dying) | {"TMPDIR": str(temporary)}
    done = shell.run_process("demo", "--pace", "0", env=env, within=PATIENCE)
    assert done.code == 1
    assert "The demo failed: the tester ended early.\ntester: I cannot." in done.err


def test_the_demo_detects_a_tester_that_wakes_for_every_message(
    shell: Shell, temporary: Path
) -> None:
    sleepless = "import bus_client; bus_client.MessageFilter = lambda **_: None"
    env = _sabotage(shell.home, "tester", sleepless) | {"TMPDIR": str(temporary)}
    done = shell.run_process("demo", "--pace", "0", env=env, within=PATIENCE)
    assert done.code == 1
    assert "not true: the tester was woken once" in done.err
    assert "it got [1, 2, 3, 4, 5, 6, 8" in done.err  # and 9, if it came before the end
    assert "Try it" not in done.out
