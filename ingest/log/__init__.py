"""Into Kafka: blocks, the producer, and the spool on disk while Kafka is away."""
