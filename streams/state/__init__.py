"""What a worker remembers, in flat tables."""
