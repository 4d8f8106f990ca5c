"""Copies a store to another file or database, of either engine: `threadbus copy`."""
