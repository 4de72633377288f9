"""The rights of a cluster's nodes, made of those of one server: `python -m deploy.provision.cluster_users`.

On a cluster a plain name is the whole table, and what a node has of it has another name (``placement.py``). A query of
the whole reaches the other nodes as the same user, so whoever may do something with a sharded table may do it with a
node's part of it. Besides, everybody waits for a replica that lags, and asks which ones there are.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

from warehouse.storage.placement import here

_FOLDER: Final = Path(__file__).resolve().parents[1] / "images/clickhouse"
USERS: Final = _FOLDER / "users.xml"
CLUSTER_USERS: Final = _FOLDER / "cluster/users.xml"
_HEAD: Final = """\
<!-- Who may do what on each node of a cluster. Written by `python -m deploy.provision.cluster_users` from ../users.xml:
     change that one. Goes to /etc/clickhouse-server/users.d/flattr.xml of every node. -->
"""
_GRANT: Final = re.compile(r"( *)<query>(?:GRANT|REVOKE) [^<]* ON flattr\.(\w+)</query>\n")
_ENDS: Final = re.compile(r"( *)</grants>\n *</(flattr_\w+)>\n")
_EVERYBODY: Final = (
    "GRANT SELECT ON system.replicas",
    "GRANT SYSTEM SYNC REPLICA ON flattr.*",
)
#: It asks each node, by the table function `cluster`.
_ASKS_NODES: Final = "GRANT READ ON REMOTE"
#: What some do beyond that.
_MORE: Final = {
    "flattr_api": (_ASKS_NODES,),
    "flattr_backup": (_ASKS_NODES, "GRANT SELECT ON system.one", "GRANT SELECT ON system.macros"),
    "flattr_migrate": (
        _ASKS_NODES,
        "GRANT SELECT ON system.one",
        "GRANT SELECT ON system.macros",
        # After a restore.
        "GRANT SYSTEM DROP REPLICA ON *.*",
        # Its lock is a query, which it ends.
        "GRANT SELECT ON system.processes",
        # The schema of one server, which is made on the first node to take the cluster's from, and dropped.
        "GRANT ALL ON flattr_model.*",
        "GRANT TABLE ENGINE ON ReplicatedMergeTree, TABLE ENGINE ON ReplicatedReplacingMergeTree",
        "GRANT TABLE ENGINE ON ReplicatedAggregatingMergeTree, TABLE ENGINE ON Distributed",
    ),
}


def cluster_users(text: str) -> str:
    """``users.xml`` of one server as that of a cluster's nodes."""
    body = text[text.index("<clickhouse>") :]
    body = _GRANT.sub(_with_local, body)
    return _HEAD + _ENDS.sub(_with_more, body)


def _with_local(found: re.Match[str]) -> str:
    line, table = found[0], found[2]
    local = here(table)
    return line if local == table else line + line.replace(f" ON flattr.{table}<", f" ON flattr.{local}<")


def _with_more(found: re.Match[str]) -> str:
    indent = found[1]
    queries = (*_EVERYBODY, *_MORE.get(found[2], ()))
    return "".join(f"{indent}  <query>{query}</query>\n" for query in queries) + found[0]


if __name__ == "__main__":
    sys.stdout.write(cluster_users(USERS.read_text()))
