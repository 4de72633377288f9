"""What services share at run time: clock, settings of Kafka and tracing, watched files, aliases, tokens, refusals."""
