"""`python -m bus_client.cli` is `threadbus`."""

import sys

from bus_client.cli import main

if __name__ == "__main__":
    sys.exit(main())
