"""The `flattr` command."""
