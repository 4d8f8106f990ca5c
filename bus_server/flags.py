"""The flags of `threadbus serve`, built from the declarations of the settings."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from bus_server.settings import FileMode, Setting, StoreUrl, declared

F = TypeVar("F", bound=Callable[..., Any])

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


class _Seconds(click.FloatRange):
    """A click type: a finite number of seconds, or a number with a unit (s, m, h, d)."""

    name = "time"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if isinstance(value, str):
            number, unit = (value[:-1], value[-1]) if value[-1:] in _UNITS else (value, "s")
            try:
                value = float(number) * _UNITS[unit]
            except ValueError:
                self.fail(f"{value!r} is not a time, such as 90, 10m or 36h.", param, ctx)
        seconds = super().convert(value, param, ctx)
        if not math.isfinite(seconds):
            self.fail(f"{value} is not a number of seconds.", param, ctx)
        return seconds


def _file_mode(value: object) -> FileMode:
    """Returns the file mode with these octal digits.

    Raises BadParameter if they are not a file mode, or one that does not let the owner connect.
    """
    digits = str(value)
    if not re.fullmatch("(0o)?[0-7]{3,4}", digits) or int(digits, 8) & ~0o177 != 0o600:
        raise click.BadParameter(
            f"{digits} is not a file mode that lets the owner connect: give three octal digits, "
            "such as 600 (the owner alone), 660 (also the group) or 666 (everyone on this machine)."
        )
    return FileMode(digits, 8)


def _store_url(value: object) -> StoreUrl:
    """Returns a URL of PostgreSQL. Raises BadParameter, which does not show a password in it."""
    if not str(value).startswith(("postgresql://", "postgres://")):
        raise click.BadParameter(
            "this is not the URL of a PostgreSQL database, such as postgresql://USER@HOST/DATABASE."
        )
    return StoreUrl(value)


def parse(setting: Setting, text: str) -> Any:
    """Returns the value of a setting that is not a bool. Raises click.BadParameter."""
    return click.types.convert_type(_type(setting))(text)


def settings_flags(command: F) -> F:
    """Add a flag for each setting to a click command (decorator).

    The command gets the values under the settings' names; None: the server chooses.
    """
    for setting in reversed(declared()):  # click lists the flag that was added last first
        command = _flag(setting)(command)
    return command


def _flag(setting: Setting) -> Callable[[F], F]:
    bare = {} if setting.bare is None else {"flag_value": setting.bare}
    return click.option(
        setting.flag,
        type=_type(setting),
        is_flag=setting.kind is bool,
        default=None if setting.default in ("", None) else setting.default,
        envvar=setting.variable,
        metavar=_metavar(setting),
        show_default=True,
        show_envvar=True,
        help=f"{setting.help} Reloadable." if setting.reloadable else setting.help,
        **bare,
    )


def _type(setting: Setting) -> click.ParamType[Any] | Callable[[object], Any]:
    if setting.choices:
        return click.Choice(setting.choices)
    if setting.range is not None:
        low, high = setting.range.low, setting.range.high
        if setting.kind is float:
            return _Seconds(low, high, min_open=setting.range.low_open)
        return click.IntRange(round(low), round(high), min_open=setting.range.low_open)
    if setting.kind is Path:
        return click.Path(path_type=Path, readable=False)
    if setting.kind is FileMode:
        return _file_mode
    if setting.kind is StoreUrl:
        return _store_url
    return click.BOOL if setting.kind is bool else click.STRING


def _metavar(setting: Setting) -> str | None:
    """Returns the value's placeholder in the help. None: click's default for its type."""
    if setting.range is not None:
        return {"seconds": "TIME", "bytes": "BYTES", "": "COUNT"}[setting.range.unit]
    return setting.metavar or None
