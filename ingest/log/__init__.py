"""Publishing to Kafka: blocks, the producer, and the spool on disk for when Kafka is unavailable."""
