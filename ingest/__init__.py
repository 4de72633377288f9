"""Ingest: clicks come in over HTTP and are answered once Kafka has them."""
