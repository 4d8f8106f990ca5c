"""A model of the bus in plain lists and dicts, and the tests' checks of a real one against it."""
