"""The oracle: what should have come of the promises and the log, worked out anew.

Nothing in this package imports the system it judges (import-linter keeps it so): it reads the answers
file, the topic and the tables by way of the drivers alone, and follows the written rules of
docs/design/exactly-once.md with plain dictionaries.
"""
