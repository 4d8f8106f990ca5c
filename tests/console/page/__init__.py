"""Tests of the console's page, in Chromium."""
