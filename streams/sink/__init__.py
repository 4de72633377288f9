"""Rows into the warehouse, in the order that makes every crash harmless."""
