"""Records from Kafka, through Faust's consumer, one event per fetch."""
