"""Settings: one declaration each for flag, variable and docs; and the start announced as JSON."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from bus_server.__main__ import main
from bus_server.settings import Setting, Settings, declared, misspelt
from tests.connections import connected
from tests.doc_examples import page
from tests.refused_start import contents
from tests.serving import ServerProcess
from tests.settings_values import another
from threadbus.v1.bus_service_pb2 import GetServerInfoRequest

NONSENSE = [
    ("--max-queued-posts", "0"),
    ("--max-queued-posts", "many"),
    ("--max-queued-bytes", "-1"),
    ("--max-open-waits", "0"),
    ("--max-content-bytes", "0"),
    ("--max-content-bytes", "99999999999"),
    ("--fallback-interval", "nan"),
    ("--fallback-interval", "inf"),
    ("--fallback-interval", "-1"),
    ("--busy-timeout", "-0.1"),
    ("--checkpoint-interval", "0"),
    ("--drain-timeout", "0"),
    ("--drain-timeout", "100000"),
    ("--keepalive-time", "0"),
    ("--keepalive-timeout", "nan"),
    ("--auth", "maybe"),
    ("--durability", "some"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("flag", "value"), NONSENSE)
def test_an_invalid_setting_is_refused_by_name(tmp_path: Path, flag: str, value: str) -> None:
    flags = ["--listen", "127.0.0.1:0", "--db", str(tmp_path / "bus.db"), flag, value]
    done = subprocess.run(
        [sys.executable, "-m", "bus_server", *flags],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert f"'{flag}'" in done.stderr
    assert value in done.stderr
    assert "Traceback" not in done.stderr
    assert contents(tmp_path) == {}


@pytest.mark.usefixtures("chosen_store")
@pytest.mark.sqlite
@pytest.mark.slow
@pytest.mark.parametrize("flags", [[], ["--auth", "required", "--durability", "fast"]])
async def test_the_start_can_be_announced_as_one_json_object(
    tmp_path: Path, flags: list[str]
) -> None:
    server = ServerProcess(tmp_path / "bus.db", "--json", *flags)
    server.process = server.spawn()
    try:
        assert server.process.stdout is not None
        told = json.loads(server.process.stdout.readline())
        assert told.pop("listen").startswith("127.0.0.1:")
        assert told == {
            "db": str(server.db),
            "kind": f"sqlite, {'no fsync: --durability fast' if flags else 'fsync'}",
            "durability": "fast" if flags else "full",
            "auth": "required" if flags else "open",
            "tls": False,
        }
        server.signal(signal.SIGTERM)
        assert server.process.stdout.read() == ""
    finally:
        server.kill()


@pytest.mark.usefixtures("chosen_store")
@pytest.mark.slow
async def test_a_server_responds_at_the_address_in_its_json(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "bus.db", "--json")
    server.process = server.spawn()
    try:
        assert server.process.stdout is not None
        told = json.loads(server.process.stdout.readline())
        async with connected(told["listen"]) as client:
            info = await client.bus.GetServerInfo(GetServerInfoRequest(), timeout=10)
        assert info.auth == told["auth"]
    finally:
        server.kill()


def _parsed(*arguments: str) -> dict[str, Any]:
    """Returns the values that `threadbus serve` gets for the settings."""
    return main.make_context("serve", list(arguments)).params


@pytest.mark.parametrize("text", ["10q", "m", "soon"])
def test_a_time_that_is_not_one_is_refused_with_examples(text: str) -> None:
    with pytest.raises(click.BadParameter, match="not a time, such as 90, 10m or 36h"):
        _parsed("--drain-timeout", text)


def test_without_flags_and_variables_each_setting_is_its_default() -> None:
    names = [setting.name for setting in declared()]
    given = {name: value for name in names if (value := _parsed()[name]) is not None}
    assert Settings(**given) == Settings()


@pytest.mark.parametrize("setting", declared(), ids=lambda setting: setting.name)
def test_each_setting_has_a_flag(setting: Setting) -> None:
    text, value = another(setting)
    arguments = [setting.flag] if setting.kind is bool else [setting.flag, text]
    assert _parsed(*arguments)[setting.name] == value


@pytest.mark.parametrize("setting", declared(), ids=lambda setting: setting.name)
def test_each_setting_but_json_has_a_variable(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (setting.variable is None) == (setting.name == "json")
    if setting.variable is not None:
        text, value = another(setting)
        monkeypatch.setenv(setting.variable, text)
        assert _parsed()[setting.name] == value


def _table() -> str:
    """Returns the table of all settings for docs/running.md."""
    rows = [
        f"| `{each.flag}` | {_default(each)} | {each.help} | {'yes' * each.reloadable} |"
        for each in declared()
    ]
    return "\n".join(
        ["| flag | default | what it sets | reloadable |", "| --- | --- | --- | --- |", *rows]
    )


def _default(setting: Setting) -> str:
    if setting.kind is bool or setting.default in ("", None):
        return ""
    unit = setting.range.unit if setting.range else None
    if unit == "seconds":
        return f"{setting.default:g} s"
    if unit == "bytes":
        return f"{setting.default / 2**20:g} MiB"
    return f"{setting.default:,}" if unit == "" else f"`{setting.default}`"


def test_the_docs_list_the_settings() -> None:
    assert _table() in page("docs/running.md"), f"put this table into docs/running.md:\n{_table()}"


def test_the_guarantees_state_the_defaults() -> None:
    defaults = {each.flag: _default(each) for each in declared()}
    stated = re.findall(  # but for sums of two
        r"(?<! and )`(--[a-z-]+)`, (\S+(?: MiB| s)?) by default", page("docs/guarantees.md")
    )
    assert len(stated) >= 7
    assert not [(flag, value) for flag, value in stated if defaults[flag] != value]


@pytest.mark.parametrize("url", ["", "mysql://user:secret@host/bus", "host=h password=secret"])
def test_what_is_no_url_of_postgresql_is_wrong_usage_and_not_shown(url: str) -> None:
    with pytest.raises(click.BadParameter, match="not the URL of a PostgreSQL database") as refusal:
        _parsed("--store", url)
    assert refusal.value.exit_code == 2
    assert "secret" not in refusal.value.format_message()
    assert "--store" in refusal.value.format_message()


def test_variables_much_like_those_of_settings_are_found() -> None:
    assert misspelt(
        [
            *("THREADBUS_DRAIN_TIMOUT", "THREADBUS_DURABLITY", "THREADBUS_LOGLEVEL"),
            *("THREADBUS_LISTEN", "THREADBUS_STORE", "PATH", "DRAIN_TIMOUT"),
            # Those of the client, and of a cluster that runs a service of this name.
            *("THREADBUS_SERVER", "THREADBUS_AGENT", "THREADBUS_TOKEN", "THREADBUS_THREAD"),
            *("THREADBUS_CREDENTIALS", "THREADBUS_HOME", "THREADBUS_JSON"),
            *("THREADBUS_CA_FILE", "THREADBUS_CLIENT_CERT", "THREADBUS_CLIENT_KEY"),
            *("THREADBUS_PORT", "THREADBUS_SERVICE_HOST", "THREADBUS_PORT_7420_TCP_ADDR"),
        ]
    ) == {
        "THREADBUS_DRAIN_TIMOUT": "THREADBUS_DRAIN_TIMEOUT",
        "THREADBUS_DURABLITY": "THREADBUS_DURABILITY",
        "THREADBUS_LOGLEVEL": "THREADBUS_LOG_LEVEL",
    }


@pytest.mark.usefixtures("chosen_store")
@pytest.mark.slow
def test_a_variable_that_sets_nothing_is_logged_at_the_start(tmp_path: Path) -> None:
    misspelling = {"THREADBUS_DRAIN_TIMOUT": "5"}
    with ServerProcess(tmp_path / "bus.db", environment=misspelling) as server:
        assert server.stop() == 0
    (line,) = server.problems
    assert "THREADBUS_DRAIN_TIMOUT is not a setting" in line
    assert line.strip().endswith("is it THREADBUS_DRAIN_TIMEOUT?")
