"""`threadbus mcp`, as hosts use it."""
