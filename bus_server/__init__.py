"""The ThreadBus server. Read bus.py first, after the protos."""

from importlib import metadata

try:
    __version__ = metadata.version("threadbus")
except metadata.PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0+unknown"
