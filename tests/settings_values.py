"""Values for settings."""

from typing import Any

from bus_server.settings import FileMode, Setting, StoreUrl


def another(setting: Setting) -> tuple[str, Any]:
    """Returns a value other than the default, as text and as the server gets it."""
    if setting.choices:
        return setting.choices[-1], setting.choices[-1]
    if setting.kind is bool:
        return "true", True
    if setting.kind is float:
        return "2m", 120.0
    if setting.range is not None:
        return f"{setting.range.high:.0f}", setting.range.high
    if setting.kind is FileMode:
        return "660", FileMode(0o660)
    if setting.kind is StoreUrl:
        return "postgres://host/bus", StoreUrl("postgres://host/bus")
    return "other", setting.kind("other")
