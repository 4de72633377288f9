"""Quarantine: flattrs that leave counts and payouts, by rule or by hand, until they are released."""
