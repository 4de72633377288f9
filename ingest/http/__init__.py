"""Sockets and HTTP: bounded connections, the beacon, problem details, what browsers load."""
