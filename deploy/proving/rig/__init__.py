"""A warehouse of shards and replicas on one machine, of real engines and Apache ZooKeeper. For tests and chaos."""
