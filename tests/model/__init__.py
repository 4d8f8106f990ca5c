"""A bus in plain lists and dicts, and what holds a real one against it."""
