"""The child process of a rig's node: serves ClickHouse from the current directory, to clients and to replicas.

Arguments: the host and port of the interserver listener.
"""

from __future__ import annotations

import sys

from deploy.proving.rig.interserver import install, load_engine
from deploy.stack.serve_clickhouse import SERVE

if __name__ == "__main__":
    engine = load_engine()
    install(engine, sys.argv[1], int(sys.argv[2]))
    engine.query(SERVE, "CSV", path="data")
