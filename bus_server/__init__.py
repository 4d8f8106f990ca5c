"""The ThreadBus server. To learn the code, read the protos, then bus.py."""

from importlib import metadata

try:
    __version__ = metadata.version("threadbus")
except metadata.PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0+unknown"
