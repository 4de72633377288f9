"""Moves of the log to a topic with more partitions: what was noted of them, and what they refuse."""
