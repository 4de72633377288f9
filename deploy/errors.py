"""The error that ends a command with one sentence."""

from __future__ import annotations


class CommandFailed(Exception):
    """A command cannot do its work; the message says why and what to do."""
