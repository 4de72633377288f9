"""Subscriptions: flattrs that repeat on the first of every month, until they are ended."""
