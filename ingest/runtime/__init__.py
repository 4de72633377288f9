"""What every service shares at run time: clock, Kafka settings, tracing, watched files, aliases, client addresses."""
