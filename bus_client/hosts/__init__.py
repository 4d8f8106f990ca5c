"""Coding agents as hosts of ThreadBus: what each one runs, and in which words it is answered."""
