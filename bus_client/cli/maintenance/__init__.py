"""`threadbus backup`, `restore` and `vacuum`: they work on a store itself, not through a server."""
