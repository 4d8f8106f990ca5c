"""Files of settings: --config, what it overrules, its errors, and --print-config."""

import re
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from bus_server.__main__ import main
from bus_server.config_file import MASK, ConfigError, masked, read, toml, written
from bus_server.configuration import Configuration
from bus_server.settings import Settings, declared
from tests.connections import connected
from tests.serving import ServerProcess
from tests.settings_values import another
from threadbus.v1.bus_service_pb2 import GetServerInfoRequest


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "threadbus.toml"


def printed(*arguments: str, **variables: str) -> str:
    """Returns what `threadbus serve --print-config` prints."""
    done = CliRunner().invoke(main, ["--print-config", *arguments], env=variables)
    assert done.exit_code == 0, done.output
    return done.stdout


def line_of(text: str, key: str) -> tuple[str, str]:
    """Returns a setting's line in a file, and the comment before it."""
    before, _, rest = text.partition(f"\n{key} = ")
    return rest.partition("\n")[0], before.rpartition("\n")[2]


def test_each_setting_can_be_in_the_file(file: Path) -> None:
    values: dict[str, Any] = {}
    lines = []
    for setting in declared():
        text, values[setting.name] = another(setting)
        number = setting.kind in (int, bool)
        lines.append(f"{setting.key} = {text if number else toml(text)}")
    file.write_text("\n".join(lines))
    assert read(file) == values
    assert all(type(read(file)[name]) is type(value) for name, value in values.items())


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ('"90"', 90), ("1.5", 1.5), ('"10m"', 600), ('"0.5h"', 1800)]
)
def test_times_are_numbers_or_have_a_unit(file: Path, text: str, seconds: float) -> None:
    file.write_text(f"drain-timeout = {text}")
    assert read(file) == {"drain_timeout": seconds}


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("max_open_waits = 3", "max_open_waits is not a setting: is it max-open-waits?"),
        ("drain-timout = 3", "drain-timout is not a setting: is it drain-timeout?"),
        ("THREADBUS_DB = 'x'", "THREADBUS_DB is not a setting: is it db?"),
        ("colour = 'x'", "colour is not a setting"),
        ("log.level = 'debug'", "log is a table: write each setting as KEY = VALUE"),
        ("max-open-waits = 'many'", 'max-open-waits is "many", but must be a whole number'),
        ("max-open-waits = 1.5", "max-open-waits is 1.5, but must be a whole number"),
        ("max-open-waits = true", "max-open-waits is true, but must be a whole number"),
        ("max-open-waits = 0", "max-open-waits is 0: 0 is not in the range 1<=x"),
        ("max-open-waits = [1]", "max-open-waits is "),
        ("drain-timeout = 'soon'", "'soon' is not a time, such as 90, 10m or 36h"),
        ("drain-timeout = nan", "drain-timeout is nan: "),
        ("drain-timeout = 2026-01-01", "but must be a time, such as 90, "),
        ("refuse-secrets = 'yes'", 'refuse-secrets is "yes", but must be true or false'),
        ("auth = 'maybe'", "'maybe' is not one of 'open', 'required'"),
        ("auth = 1", 'auth is 1, but must be one of "open", "required"'),
        ("db = 1", "db is 1, but must be a text in quotes"),
        ("socket-mode = 0o660", "socket-mode is 432, but must be three octal digits in quotes"),
        ("socket-mode = '7'", "7 is not a file mode"),
        ("store = 'mysql://u:hush@h/d'", "store: this is not the URL of a PostgreSQL database"),
        (f"store = 'postgresql://u:{MASK}@h/d'", "store: its password is masked"),
    ],
)
def test_an_error_names_the_line_and_what_is_wanted(file: Path, line: str, error: str) -> None:
    file.write_text(f"# Ours.\n\n{line}\n")
    with pytest.raises(ConfigError) as refused:
        read(file)
    message = str(refused.value)
    assert message.startswith(f"{file}, line 3: ")
    assert error in message
    assert "hush" not in message


def test_what_is_no_toml_or_no_file_is_an_error(file: Path, tmp_path: Path) -> None:
    for path, error in ((file, "cannot read"), (tmp_path, "folder, not a file|Is a directory")):
        with pytest.raises(ConfigError, match=error):
            read(path)
    for data, error in (
        (b"a = \n", "line 1"),
        (b"db = 'a'\ndb = 'b'\n", "a setting is there twice .at line 2"),
        (b"\xff", "UTF-8"),
        (b"#" * 2**21, "1 MiB"),
    ):
        file.write_bytes(data)
        with pytest.raises(ConfigError, match=error):
            read(file)


def test_an_error_is_wrong_usage(file: Path) -> None:
    file.write_text("colour = 1")
    done = CliRunner().invoke(main, ["--config", str(file)])
    assert done.exit_code == 2
    assert f"Invalid value for '--config': {file}, line 1: colour is not a setting" in done.stderr


def test_flags_overrule_variables_and_these_the_file(file: Path) -> None:
    file.write_text(
        "max-streams = 2\nmax-open-waits = 3\nmax-anonymous-waits = 4\nrefuse-secrets = true"
    )
    variables = {
        "THREADBUS_CONFIG": str(file),
        "THREADBUS_MAX_STREAMS": "20",
        "THREADBUS_MAX_OPEN_WAITS": "30",
        "THREADBUS_REFUSE_SECRETS": "false",
        "THREADBUS_MAX_ANONYMOUS_WAITS": "",
    }
    text = printed("--max-streams", "200", **variables)
    assert line_of(text, "max-streams") == ("200", "# From the flag --max-streams.")
    origin = "# From the variable THREADBUS_MAX_OPEN_WAITS. Reloadable."
    assert line_of(text, "max-open-waits") == ("30", origin)
    assert line_of(text, "refuse-secrets")[0] == "false"
    assert line_of(text, "max-anonymous-waits") == ("4", f"# From the file {file}. Reloadable.")
    assert line_of(text, "durability") == ('"full"', "# From the default.")


def test_what_is_printed_is_a_file_of_the_same_settings(file: Path) -> None:
    for given in ({}, {setting.name: another(setting)[1] for setting in declared()}):
        settings = Settings(**given)
        file.write_text(written(settings, dict.fromkeys(vars_of(settings), "a test")))
        assert Settings(**read(file)) == settings
    odd = Settings(db=Path('a "b"\\c\n\x7f😀'), drain_timeout=123456.789 / 2)
    file.write_text(written(odd, dict.fromkeys(vars_of(odd), "a test")))
    assert Settings(**read(file)) == odd


def vars_of(settings: Settings) -> list[str]:
    return [each.name for each in declared() if hasattr(settings, each.name)]


def test_each_setting_is_printed_with_its_help_and_how_it_can_change() -> None:
    text = printed()
    plain = re.sub(r"\n# ", " ", text)
    for setting in declared():
        assert setting.help in plain, setting
        origin = "From the default." + " Reloadable." * setting.reloadable
        assert re.search(rf"{re.escape(origin)}[\n ]{setting.key} = ", plain), setting


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://host/db", "postgresql://host/db"),
        ("postgresql://h1:1,h2:2/db?sslmode=require", "postgresql://h1:1,h2:2/db?sslmode=require"),
        ("postgresql://ann@host/db", "postgresql://ann@host/db"),
        ("postgresql://ann:hush@host/db", f"postgresql://ann:{MASK}@host/db"),
        ("postgresql://ann:hu/s@h?@host:1/db", f"postgresql://ann:{MASK}@host:1/db"),
        ("postgres:///db?password=hush&user=a", f"postgres:///db?password={MASK}&user=a"),
        ("postgres:///db?a=1&sslpassword=hush", f"postgres:///db?a=1&sslpassword={MASK}"),
    ],
)
def test_passwords_are_masked(file: Path, url: str, shown: str) -> None:
    assert masked(url) == shown
    assert line_of(printed(THREADBUS_STORE=url), "store")[0] == toml(shown)


def test_a_password_that_others_can_read_is_a_risk(file: Path) -> None:
    file.write_text('store = "postgresql://ann:hush@host/db"')
    file.chmod(0o604)
    (risk,) = Configuration.load({}, {}, file).risks()
    assert str(file) in risk
    assert "hush" not in risk
    file.chmod(0o640)
    assert Configuration.load({}, {}, file).risks() == []
    file.write_text('store = "postgresql://ann@host/db"')
    file.chmod(0o604)
    assert Configuration.load({}, {}, file).risks() == []


@pytest.mark.usefixtures("chosen_store")
@pytest.mark.slow
async def test_a_server_uses_the_file(file: Path, tmp_path: Path) -> None:
    file.write_text('heartbeat-interval = "7s"\nmax-streams = 8\n')
    with ServerProcess(tmp_path / "bus.db", "--config", str(file), "--max-streams", "9") as server:
        async with connected(server.address) as client:
            info = await client.bus.GetServerInfo(GetServerInfoRequest())
    assert (info.heartbeat_interval.seconds, info.limits.max_streams) == (7, 9)


def test_help_says_which_settings_are_reloadable() -> None:
    options = {
        parameter.name: parameter.help or ""
        for parameter in main.params
        if isinstance(parameter, click.Option)
    }
    for setting in declared():
        assert options[setting.name].endswith(" Reloadable.") == setting.reloadable
