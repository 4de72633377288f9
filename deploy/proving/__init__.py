"""Load, chaos and the oracle. Not in the production image."""
