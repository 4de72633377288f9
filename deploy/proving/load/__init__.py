"""`flattr load`: seeded traffic from several processes, with a record of every answer."""
