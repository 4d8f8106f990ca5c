"""`threadbus backup`, `restore`, `copy` and `vacuum`: work on a store itself, without a server."""
