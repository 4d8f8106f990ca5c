"""One thin servicer for each proto service: check, call, reply."""
