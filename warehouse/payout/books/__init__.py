"""What comes out of a closed month."""
