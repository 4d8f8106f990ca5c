"""Files of settings, in TOML: each key is the name of a flag without its dashes in front."""

import difflib
import os
import re
import stat
import textwrap
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from bus_server import filesystem, logs
from bus_server.flags import parse
from bus_server.settings import FileMode, Setting, Settings, StoreUrl, declared

#: Bytes. A larger file is none of settings.
MAX_BYTES = 1024 * 1024
#: What is written in place of a password.
MASK = "********"
#: A whole number, as click takes it.
_WHOLE = re.compile(r"\s*[+-]?\d+\s*")
#: Columns of the comments in a file.
_WIDTH = 99

#: Parameters of libpq that are secrets.
_SECRETS = re.compile(r"([?&][^=&]*(?:password|secret|client_key)[^=&]*=)[^&]*", re.IGNORECASE)
#: From the first colon behind the user's name to the last @: also if a password is not encoded.
_PASSWORD = re.compile(r"(?<=://)([^:/?]*):.*@")


class ConfigError(Exception):
    """A file of settings cannot be used. The message names it, and says why."""


def read(path: Path) -> dict[str, Any]:
    """Returns the settings in a file: their values by name. Raises ConfigError.

    A setting that is "" there counts as not set.
    """
    text = _text(path)
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        # What tomllib says of a key that is there twice.
        why = str(error).replace("Cannot overwrite a value", "a setting is there twice")
        raise ConfigError(f"{path} is not valid TOML: {why}") from error
    values = dict[str, Any]()
    for key, value in found.items():
        try:
            setting = _setting(key, value)
            if value != "":
                values[setting.name] = _value(setting, value)
        except ConfigError as error:
            raise ConfigError(f"{path}{_line(key, text)}: {error}") from None
    return values


def _line(key: str, text: str) -> str:
    """Returns `, line N` of a key, or "" if it is not found: TOML has many ways to write one."""
    found = re.search(rf"""^[ \t]*["']?{re.escape(key)}["']?[ \t]*[=.]""", text, re.MULTILINE)
    return f", line {text[: found.start()].count(chr(10)) + 1}" if found else ""


def _setting(key: str, value: object) -> Setting:
    """Returns the setting of a key. Raises ConfigError."""
    known = {each.key: each for each in declared()}
    if isinstance(value, dict):
        raise ConfigError(f"{key} is a table: write each setting as KEY = VALUE")
    if key not in known:
        raise ConfigError(f"{key} is not a setting{_meant(key, list(known))}")
    return known[key]


def _text(path: Path) -> str:
    try:
        # NONBLOCK: opening a named pipe would hang.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise ConfigError(f"{path} is {filesystem.kind_of(status)}, not a file")
            found = os.read(handle, MAX_BYTES + 1)
        finally:
            os.close(handle)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
    if len(found) > MAX_BYTES:
        raise ConfigError(f"{path} is larger than 1 MiB")
    try:
        return found.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not encoded in UTF-8") from error


def _meant(key: str, known: list[str]) -> str:
    plain = key.lower().replace("_", "-").removeprefix("threadbus-")
    close = difflib.get_close_matches(plain, known, 1)
    return f": is it {close[0]}?" if close else ""


def _value(setting: Setting, found: object) -> Any:
    """Returns the value of a setting. Raises ConfigError, which does not show a password."""
    shown = f"{setting.key} is {toml(found)}" if setting.kind is not StoreUrl else setting.key
    number = setting.kind in (int, float)
    allowed = bool if setting.kind is bool else (int, float, str) if number else str
    if not isinstance(found, allowed) or (number and isinstance(found, bool)):
        raise ConfigError(f"{shown}, but must be {_wanted(setting)}")
    if setting.kind is bool:
        return found
    if setting.kind is StoreUrl and MASK in str(found):
        raise ConfigError(f"{shown}: its password is masked: write the password, or leave it out")
    try:
        return parse(setting, str(found))
    except click.BadParameter as error:
        if setting.kind is int and not _WHOLE.fullmatch(str(found)):
            raise ConfigError(f"{shown}, but must be {_wanted(setting)}") from None
        raise ConfigError(f"{shown}: {error.message}") from None


def _wanted(setting: Setting) -> str:
    if setting.kind is bool:
        return "true or false"
    if setting.choices:
        return f"one of {', '.join(map(toml, setting.choices))}"
    if setting.range is None:
        return "three octal digits in quotes" if setting.kind is FileMode else "a text in quotes"
    return 'a time, such as 90, "10m" or "36h"' if setting.kind is float else "a whole number"


def written(settings: Settings, origins: Mapping[str, str]) -> str:
    """Returns a file of all settings, with comments. Passwords are masked.

    `origins`: where the value of each comes from.
    """
    lines = ["# Settings of `threadbus serve --config FILE`, as they are in effect.", ""]
    for setting in declared():
        value, name = getattr(settings, setting.name), setting.name
        origin = f"# From {logs.printable(origins[name])}."
        if setting.reloadable:
            origin += " Reloadable."
        if setting.kind is StoreUrl and masked(value) != value:
            origin += " The password is masked."
            value = masked(value)
        lines += textwrap.wrap(setting.help, _WIDTH, initial_indent="# ", subsequent_indent="# ")
        lines.append(origin)
        unset = "# " if value in ("", None) else ""
        lines += [f"{unset}{setting.key} = {toml('' if value is None else value)}", ""]
    return "\n".join(lines)


def masked(url: str) -> str:
    """Returns the URL of a database with the passwords in it masked."""
    return _SECRETS.sub(rf"\1{MASK}", _PASSWORD.sub(rf"\1:{MASK}@", url))


def exposed(path: Path) -> bool:
    """Returns whether any user of this machine can read a file. False if it is gone."""
    try:
        return bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:
        return False


def toml(value: object) -> str:
    """Returns a value as it is written in TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, int | float) and not isinstance(value, FileMode):
        return str(value)
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(character: str) -> str:
    return character if character.isprintable() else f"\\U{ord(character):08x}"
