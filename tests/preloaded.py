"""The imports of forked servers: forked.py has its parent process import this."""

import os

# gRPC reads it when imported; a server sets it before that.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import uvloop

import bus_server.__main__
import bus_server.server

__all__ = ["bus_server", "uvloop"]
