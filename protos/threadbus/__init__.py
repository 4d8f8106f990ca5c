"""ThreadBus for Python. The SDK is `bus_client`; this package exports all of its names.

    from threadbus import BusClient

`threadbus.v1` has the contract's messages and stubs. Importing it does not import the SDK.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bus_client import *  # noqa: F403 - its __all__
    from bus_client import __version__ as __version__
else:

    def __getattr__(name):
        import bus_client

        if name in ("__all__", "__version__") or name in bus_client.__all__:
            return getattr(bus_client, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    import bus_client

    return bus_client.__all__
