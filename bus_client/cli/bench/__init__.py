"""`threadbus bench`: measures how fast a server takes posts and wakes waiting clients."""
