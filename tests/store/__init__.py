"""The contract of the store: what every engine must do. Tests here know only bus_server.store."""
