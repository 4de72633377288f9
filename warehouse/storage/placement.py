"""Which rows of a cluster lie where.

On a cluster a plain name, such as ``flattrs``, is the whole table, on any node; ``flattrs_here`` is what this node's
shard has of it. On one server both are the same, and the second name is not used. Tables that are not listed here are
small or needed everywhere: each node of the cluster has all of them.
"""

from __future__ import annotations

import re
from typing import Final

#: A member's rows share a shard, whatever the number of Kafka's partitions, so that a month is divided shard by shard.
_BY_MEMBER: Final = "kafkaMurmurHash(member_id)"
_BY_PARTITION: Final = "partition"
#: The sharding key of each sharded table.
SHARDED: Final = {
    **dict.fromkeys(
        [
            "flattrs", "replayed_flattrs", "counts_by_member", "pledges", "pools", "pools_staging", "quarantine_set",
        ],
        _BY_MEMBER,
    ),
    **dict.fromkeys(
        [
            "counts_by_creator", "counts_by_creator_moving", "counts_by_thing", "counts_by_thing_moving", "duplicates",
            "undos", "retimed", "late", "rejected", "progress", "log_ends",
        ],
        _BY_PARTITION,
    ),
    "things": "cityHash64(thing_id)",
}  # fmt: skip
#: Tables that are like others, and stand only while a month is archived or comes back (warehouse/archive).
STAGED: Final = {
    f"archive_{table}": table
    for table in (
        "flattrs", "counts_by_member", "counts_by_creator", "counts_by_thing", "duplicates", "undos", "retimed",
        "quarantine_set",
    )
}  # fmt: skip
_DIVIDED: Final = SHARDED | {name: SHARDED[table] for name, table in STAGED.items()}
#: Views that a shard needs of its own rows.
LOCAL_VIEWS: Final = ("shares", "quarantined", "quarantined_as_of", "creator_flattrs", "day_flattrs")
#: Those of which each shard states its part, by the rights of who migrated: who reads them may read no table.
ADDED_UP: Final = {"creator_flattrs": "month, creator_id", "day_flattrs": "month, day"}
_HERE: Final = "_here"
_NAMES: Final = "|".join(sorted([*_DIVIDED, *LOCAL_VIEWS], key=len, reverse=True))
#: A name where a table is meant, not a column: `quarantined` is both.
_TABLE: Final = re.compile(rf"\b(FROM|JOIN|INTO|TABLE|VIEW)(\s+(?:\w+\.)?)({_NAMES})\b")
_ALTER: Final = re.compile(r"\s*ALTER\s+TABLE\s+(\w+)")
_COMMENT: Final = re.compile(r"--[^\n]*")


def here(table: str) -> str:
    """The name of a table's local part."""
    return f"{table}{_HERE}" if table in _DIVIDED or table in LOCAL_VIEWS else table


def on_shard(sql: str) -> str:
    """The statement, reading and writing the local parts."""
    return _TABLE.sub(lambda found: f"{found[1]}{found[2]}{here(found[3])}", _COMMENT.sub("", sql))


def alters_shards(sql: str) -> bool:
    """Whether the statement changes a sharded table, which each shard must do."""
    found = _ALTER.match(_COMMENT.sub("", sql))
    return found is not None and found[1] in _DIVIDED


def on_cluster(sql: str, cluster: str) -> str:
    """A query of one server as one of the cluster: the parts of tables are those of a replica of every shard."""
    return sql.replace("FROM system.parts\n", f"FROM cluster('{cluster}', system.parts)\n")
