"""Deploy: the command line, the embedded stack, and everything that composes the parts."""
