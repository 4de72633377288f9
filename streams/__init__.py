"""Streams: Faust agents deduplicate and count clicks into the warehouse."""
