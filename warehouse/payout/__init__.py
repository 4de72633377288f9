"""Payout: from a month's flattrs to sealed payout records."""
