"""What only the store on PostgreSQL can have: the rest of its contract is in tests/store."""
