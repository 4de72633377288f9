"""The read API and its pages. It writes nothing, and nothing imports it."""
