"""Quarantine: flattrs taken out of counts and payouts, by rule or by hand, until they are released."""
