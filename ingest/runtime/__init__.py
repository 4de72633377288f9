"""What every service shares at run time: clock, settings of Kafka and tracing, watched files, aliases, tokens, refusals."""
