"""The store on a PostgreSQL server, which servers on several machines can share."""
