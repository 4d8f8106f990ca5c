"""What only the store on SQLite has: its file, and servers that share one."""
