"""Starting a console: errors, HTTPS, a reverse proxy, and `threadbus serve --console`."""

import json
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from bus_client import BusClient
from tests.callers import operator_token_file
from tests.console.consoles import (
    PERSON,
    ConsoleProcess,
    browser,
    console_of,
    environment,
    events,
    serving,
)
from tests.polling import until
from tests.ports import free_port
from tests.proxies import run_nginx
from tests.serving import ServerProcess
from tests.shell import Done, Shell

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).parents[2] / "docs/console.md").read_text("utf-8")


@pytest.fixture
def shell(server: ServerProcess, tmp_path: Path) -> Shell:
    return Shell(server.address, tmp_path)


def refused(shell: Shell, *arguments: str) -> Done:
    """Returns what a console says that does not start."""
    flags = () if "--listen" in arguments else ("--listen", "127.0.0.1:0")
    done = shell.run("console", "--no-open", *flags, *arguments)
    assert done.code != 0
    assert (done.out, "Traceback" in done.err) == ("", False)
    return done


def test_a_person_must_be_registered_by_an_operator(shell: Shell, name: str) -> None:
    done = refused(shell, "--as", name)
    assert done.code == 6
    assert f"threadbus register {name} --human --token-file FILE" in done.err


def test_a_name_of_somebody_else_is_refused(
    shell: Shell, server: ServerProcess, tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    Shell(server.address, tmp_path_factory.mktemp("other")).ok("register", name)
    done = refused(shell, "--as", name)
    assert done.code == 5
    assert f"agent {name} is registered with another token" in done.err
    token = str(operator_token_file(server.db))
    assert refused(shell, "--as", name, "--token-file", token).code == 5


def test_options_that_cannot_be_used_are_refused(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "file.pem"
    file.write_text("no certificate")
    tls = ("--tls-cert", str(file), "--tls-key", str(file))
    for arguments, said in [
        ((), "Missing agent: add --as NAME, or an operator's token."),
        (("--as", "a b"), "'a b' is not a valid name"),
        (("--as", "x", "--listen", "7480"), "'7480' is not HOST:PORT"),
        (("--as", "x", "--listen", "127.0.0.1:99999"), "is not HOST:PORT"),
        (("--as", "x", "--listen", "0.0.0.0:0"), "can be reached from other machines"),
        (("--as", "x", "--tls-key", str(file)), "--tls-cert and --tls-key go together"),
        (("--as", "x", *tls), "--tls-cert and --tls-key cannot be used"),
        (("--as", "x", "--public-url", "bus.example.org"), "is not the address of a page"),
        (("--as", "x", "--public-url", "https://u@bus.example.org"), "is not the address"),
        (("--as", "x", "--public-url", "https://bus.example.org:x/"), "is not the address"),
        (("--as", "x", "--public-url", "javascript://x/"), "is not the address of a page"),
        (("--as", "x", "--public-url", "https://x/a;domain=y"), "is not the address of a page"),
        (("--as", "x", "--public-url", "https://x/a b"), "is not the address of a page"),
        (("--as", "x", "--public-url", "https://x/é"), "is not the address of a page"),
    ]:
        assert said in refused(shell, *arguments).err.replace("\n", " "), arguments


def test_a_damaged_key_for_cookies_is_refused(shell: Shell) -> None:
    file = Path(shell.environment()["XDG_DATA_HOME"]) / "threadbus/console-key"
    file.parent.mkdir(parents=True)
    file.touch()  # as a crash may leave it: anybody could sign with it
    assert f"{file} is damaged" in refused(shell, "--as", "x").err.replace("\n", "")


def test_an_address_in_use_is_said(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = refused(shell, "--as", "x", "--listen", address)
    assert done.code == 1
    assert f"cannot listen at {address}: Address already in use" in done.err


BROWSER = """
import os, signal, sys, urllib.request
try:
    print("loaded", urllib.request.urlopen(sys.argv[1], timeout=20).status)
finally:
    os.kill(os.getppid(), signal.SIGTERM)
"""


def test_a_browser_that_runs_in_the_terminal_is_served(
    shell: Shell, server: ServerProcess, tmp_path: Path, name: str
) -> None:
    (tmp_path / "browser.py").write_text(BROWSER)
    who = ("--as", name, "--token-file", str(operator_token_file(server.db)))
    browser = {"BROWSER": f"{sys.executable} {tmp_path}/browser.py %s"}
    code, shown = shell.on_terminal("console", "--listen", "127.0.0.1:0", *who, env=browser)
    assert (code, "loaded 200" in shown) == (128 + signal.SIGTERM, True), shown


def test_without_the_extra_the_error_says_what_to_install(tmp_path: Path) -> None:
    program = "import sys; sys.modules['uvicorn'] = None; from bus_client.cli import main; "
    program += "sys.exit(main(['console', '--as', 'x']))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(tmp_path),
    )
    assert done.returncode == 1
    assert "uvicorn, which comes with the extra `console`" in done.stderr


def test_the_server_imports_nothing_of_the_web(tmp_path: Path) -> None:
    program = "import sys, bus_server.server, bus_server.__main__, bus_client.cli; "
    program += "print([name for name in ('starlette', 'uvicorn') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_the_address_is_printed_as_json_too(
    server: ServerProcess, tmp_path: Path, name: str
) -> None:
    token = str(operator_token_file(server.db))
    console = ConsoleProcess(
        server.address, tmp_path, "--as", name, "--token-file", token, "--json"
    )
    console.process = console.spawn()
    assert console.process.stdout is not None
    told = json.loads(console.process.stdout.readline())
    assert console.stop() == (128 + signal.SIGTERM, "")
    assert told.pop("url").startswith("http://127.0.0.1:")
    assert told == {"agent": name, "server": server.address}


async def test_a_person_that_was_registered_once_needs_no_operator(
    server: ServerProcess, tmp_path: Path, name: str
) -> None:
    with console_of(server, tmp_path, name):
        pass
    with (
        console_of(server, tmp_path, name),
        ConsoleProcess(server.address, tmp_path, "--as", name) as again,
    ):
        async with browser(again) as client:
            assert (await client.get("api/me")).json()["kind"] == "human"


async def test_a_reverse_proxy_may_serve_it_under_a_path(
    server: ServerProcess, tmp_path: Path, bus: BusClient, name: str
) -> None:
    front = f"http://127.0.0.1:{free_port()}/console/"
    with console_of(server, tmp_path, name, "--public-url", front.rstrip("/")) as console:
        assert console.url == front
        own = console.listening
        port = httpx.URL(front).port or 0
        (block,) = re.findall(r"^```nginx\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
        text = block.replace("443 ssl", f"127.0.0.1:{port}").replace("127.0.0.1:7480", own)
        with run_nginx(re.sub(" *ssl_certificate.*\n", "", text), tmp_path, port):
            await until(lambda: not _is_closed(port))
            thread = await bus.join(name)
            async with browser(console) as client, events(client, name) as stream:
                assert [cookie.path for cookie in client.cookies.jar] == ["/console/"]
                assert (await client.get("")).status_code == 200
                await stream.next("thread")
                await thread.post("through nginx")
                await stream.messages(1)
                headers = {"host": "evil.example"}
                assert (await client.get("api/me", headers=headers)).status_code == 403
        async with httpx.AsyncClient() as direct:  # its own address is not the public one
            assert (await direct.get(f"http://{own}/")).status_code == 403


@pytest.mark.usefixtures("chosen_store")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_a_server_starts_a_console_that_ends_with_it(
    tmp_path: Path, number: signal.Signals, name: str
) -> None:
    with serving(tmp_path, "--console", "127.0.0.1:0") as (process, console):
        async with browser(console) as client:
            me = (await client.get("api/me")).json()
            assert (me["agent"], me["kind"]) == (PERSON, "human")
            await client.post("api/threads", json={"thread": name})
            async with events(client, name) as stream:
                await stream.next("thread")
                process.send_signal(number)
                assert process.wait(30) == (0 if number == signal.SIGTERM else -number)
                await stream.rest()
    port = httpx.URL(console.url).port or 0
    await until(lambda: _is_closed(port))


def _is_closed(port: int) -> bool:
    with socket.socket() as attempt:
        return attempt.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.usefixtures("chosen_store")
@pytest.mark.parametrize("log_format", ["text", "json"])
async def test_a_server_goes_on_without_its_console(tmp_path: Path, log_format: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        flags = ["--console", f"127.0.0.1:{taken.getsockname()[1]}", "--console-as", PERSON]
        flags += ["--log-format", log_format]
        with ServerProcess(tmp_path / "bus.db", *flags) as server:
            await until(lambda: any("the console ended" in line for line in server.log))
            async with BusClient(server.address, agent="a", credentials=tmp_path / "c"):
                pass
            assert server.stop() == 0
    (said,) = (line for line in server.log if "--listen" in line)
    if log_format == "text":
        assert said.startswith("threadbus: ")
    else:
        lines = {json.loads(line)["logger"]: json.loads(line) for line in server.log}
        assert lines["threadbus.console"]["message"] in json.loads(said)["message"]


@pytest.mark.usefixtures("chosen_store")
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--console"], "--console and --console-as go together"),
        (["--console-as", "ann"], "--console and --console-as go together"),
    ],
)
def test_settings_of_a_console_that_do_not_go_together_are_refused(
    tmp_path: Path, flags: list[str], said: str
) -> None:
    server = ServerProcess(tmp_path / "bus.db", *flags)
    done = server.spawn()
    assert done.wait(30) == 1
    server._log_reader.join(10)
    assert done.stdout is not None
    done.stdout.close()
    assert said in "".join(server.log)
