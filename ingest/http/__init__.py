"""HTTP: bounded connections, the beacon, problem details, OpenAPI, and the files that browsers load."""
