"""Deployment: the command line, the embedded stack, provisioning, and everything that composes the services."""
