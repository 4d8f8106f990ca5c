"""`threadbus console`: people follow and join conversations in a browser."""
