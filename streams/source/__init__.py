"""Records from Kafka: Faust's consumer, handing over what one fetch brought."""
