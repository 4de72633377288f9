"""ClickHouse: the client, its settings and errors, schema and migrations."""
