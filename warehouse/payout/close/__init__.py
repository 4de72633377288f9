"""The close of a month: gate, compute, check, publish, seal."""
