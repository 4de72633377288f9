"""Warehouse: schema, queries, read API and the month's close."""
