"""Reads of the live counts."""
