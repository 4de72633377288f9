"""Warehouse: schema, queries, read API and the month's close."""

__version__ = "0.2.0"
