"""Erasure of members who ask to be forgotten."""
