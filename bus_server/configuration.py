"""The settings of a server, and where each comes from: a flag, a variable, a file, or nowhere."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bus_server import config_file
from bus_server.settings import Settings, declared


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a server was started with. Flags overrule variables, and these the file."""

    given: Mapping[str, Any]
    """The values that flags and variables set, by the settings' names."""
    origins: Mapping[str, str]
    """Where each of these comes from: the flag or the variable."""
    file: Path | None
    """The file of settings. None: there is none."""
    found: Mapping[str, Any]
    """The values in the file, by the settings' names."""

    @classmethod
    def load(
        cls, given: Mapping[str, Any], origins: Mapping[str, str], file: Path | None
    ) -> "Configuration":
        """Returns the configuration with what is in the file now. Raises ConfigError."""
        found = {} if file is None else config_file.read(file)
        return cls(given, origins, file, found)

    def reload(self) -> "Configuration":
        """Returns the configuration with what is in the file now. Raises ConfigError."""
        return self.load(self.given, self.origins, self.file)

    @property
    def settings(self) -> Settings:
        """The settings in effect, before those are resolved that the server chooses."""
        return Settings(**{**self.found, **self.given})

    def written(self) -> str:
        """Returns the settings in effect as a file of settings, with comments."""
        origins = dict[str, str]()
        for setting in declared():
            name = setting.name
            origins[name] = "the default"
            if name in self.given:
                origins[name] = self.origins[name]
            elif name in self.found:
                origins[name] = f"the file {self.file}"
        return config_file.written(self.settings, origins)

    def risks(self) -> list[str]:
        """Returns what other users could learn from the file, in one sentence each."""
        store = self.found.get("store", "")
        if self.file is None or config_file.masked(store) == store:
            return []
        if not config_file.exposed(self.file):
            return []
        return [
            f"any user of this machine can read the password in {self.file}: chmod o= {self.file}"
        ]
