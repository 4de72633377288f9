"""What ends a command with one sentence."""

from __future__ import annotations


class CommandFailed(Exception):
    """A command cannot do what it was asked; the message says why and what to do."""
