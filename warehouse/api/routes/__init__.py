"""Routes of the read API: each takes its parameters, asks a typed query, shapes the answer."""
