"""A closed month computed again, sharing no statement with the close."""
