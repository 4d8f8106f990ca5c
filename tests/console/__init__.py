"""Tests of `threadbus console`."""
