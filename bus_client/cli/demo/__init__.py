"""`threadbus demo`: a server and three agents, one of which is killed and recovers."""
