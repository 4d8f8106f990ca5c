"""The embedded store: one SQLite file, which several servers may share."""
