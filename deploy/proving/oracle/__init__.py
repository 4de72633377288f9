"""The oracle: an independent second implementation that judges the system.

Nothing in this package imports the system it judges, which import-linter enforces. It reads the answers file, the topic
and the tables through the drivers alone, and follows the written rules of docs/design/exactly-once.md with plain
dictionaries.
"""
