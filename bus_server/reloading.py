"""Takes up changes of the file of settings while the server runs, at SIGHUP."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from bus_server import listening, logs
from bus_server.audit import reopen
from bus_server.config_file import ConfigError, toml
from bus_server.configuration import Configuration
from bus_server.listening import ServeError
from bus_server.settings import Settings, declared

logger = logging.getLogger(__name__)


class Reloader:
    """The settings in effect, and the parts of the server that use the reloadable ones."""

    def __init__(
        self,
        configuration: Configuration,
        settings: Settings,
        users: Sequence[Callable[[Settings], None]],
    ) -> None:
        """
        Args:
            configuration: what the server was started with.
            settings: the settings in effect: those of the configuration, resolved.
            users: called with the new settings when a reloadable one has changed. The log is not
                one of them.
        """
        self.settings = settings
        self._started = self._configuration = configuration
        self._users = users

    def reload(self) -> None:
        """Read the file, take up what can change, and log it. Open the audit log's file again.

        Settings that cannot be used leave those in effect as they are; the log says why.
        """
        reopen()
        before = self.settings
        try:
            configuration = self._configuration.reload()
            names = [each.name for each in declared() if each.reloadable]
            after = replace(
                before, **{name: getattr(configuration.settings, name) for name in names}
            )
            listening.resolve(after)
        except (ConfigError, ServeError) as error:
            text = "the server goes on with the settings that it has: %s"
            logs.event(logger, logging.ERROR, "settings_refused", text, error, error=str(error))
            return
        self._configuration, self.settings = configuration, after
        for user in self._users:
            user(after)
        changed = {
            each.key: getattr(after, each.name)
            for each in declared()
            if getattr(after, each.name) != getattr(before, each.name)
        }
        # Logged if either level admits it.
        levels = logging.getLevelNamesMapping()
        level = min(before.log_level, after.log_level, key=lambda name: levels[name.upper()])
        logs.set_up(level, after.log_format)
        what = ", ".join(f"{key} = {toml(value)}" for key, value in changed.items())
        text = "settings reloaded: %s"
        what = what or "none has changed"
        logs.event(logger, logging.INFO, "settings_reloaded", text, what, changed=changed)
        self._warn()
        logs.set_up(after.log_level, after.log_format)

    def _warn(self) -> None:
        """Log which settings differ from those at the start, and cannot change until the next."""
        start, now = self._started.settings, self._configuration.settings
        keys = [
            each.key
            for each in declared()
            if not each.reloadable and getattr(now, each.name) != getattr(start, each.name)
        ]
        if keys:
            text = "changes of these settings take effect at the next start: %s"
            names = ", ".join(keys)
            logs.event(logger, logging.WARNING, "settings_pending", text, names, settings=keys)
