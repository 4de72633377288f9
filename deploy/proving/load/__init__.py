"""`flattr load`: seeded traffic from several processes, and a record of every answer."""
