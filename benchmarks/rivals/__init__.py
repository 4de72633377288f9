"""Flattr beside what others would build the same from; README.md says how each is tuned, and why so."""
