"""What every service shares at run time: clock, Kafka's settings, tracing, files that change, addresses."""
