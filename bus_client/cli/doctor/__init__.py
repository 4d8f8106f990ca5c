"""`threadbus doctor`: checks a server, its database file and this machine."""
