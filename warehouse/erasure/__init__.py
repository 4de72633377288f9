"""Members who ask to be forgotten."""
