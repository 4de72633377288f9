"""Routes of the read API: each parses its parameters, runs a typed query and shapes the answer."""
