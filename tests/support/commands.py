"""The whole command line."""

from __future__ import annotations

from deploy.cli.main import command_line

app = command_line()
