"""What a server has only if an extra is installed: the exporter of metrics, and spans."""

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from bus_server.listening import ServeError
from bus_server.settings import Settings
from threadbus.extras import install_command

if TYPE_CHECKING:
    from bus_server.exporter import Exporter
    from bus_server.tracing import Tracing


def exporter(settings: Settings) -> AbstractContextManager["Exporter | None"]:
    """Returns a context manager of what serves the metrics, if they are wanted.

    Raises ServeError if it cannot listen, or the extra is missing.
    """
    if not settings.metrics:
        return nullcontext()
    try:
        from bus_server.exporter import Exporter
    except ImportError as error:
        raise _extra_missing("metrics", error) from error
    return Exporter(settings.metrics)


def tracing(settings: Settings) -> "Tracing | None":
    """Returns what makes spans, if they are wanted.

    Raises ServeError if the extra is missing, or OpenTelemetry's variables are not valid.
    """
    if not settings.otel:
        return None
    try:
        from bus_server.tracing import Tracing
    except ImportError as error:
        raise _extra_missing("otel", error) from error
    try:
        return Tracing()
    except Exception as error:
        raise ServeError(f"--otel: {error}") from error


def _extra_missing(extra: str, error: ImportError) -> ServeError:
    """Returns the error for a flag that needs an extra of the same name."""
    return ServeError(
        f"--{extra} needs {error.name}, which comes with the extra `{extra}`: "
        f"run {install_command(f'server,{extra}')}"
    )
