"""The split of a month's pools in DuckDB: python duckdb_split.py FROM TO.

Reads flattrs.parquet and pledges.parquet, writes shares.parquet (member, creator, micro) and takes.parquet (creator,
micro), and prints the seconds it took.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import duckdb

_SHARES = """
COPY (
    WITH
    -- the last version of each flattr, whichever row holds it; bit 19 of it: taken back
    merged AS (
        SELECT member_id, creator_id, any_value(tie) AS tie, max(version) AS version
        FROM read_parquet('{source}/flattrs.parquet') GROUP BY member_id, creator_id, thing_low, thing_high
    ),
    pairs AS (
        SELECT member_id, creator_id, any_value(tie) AS tie, count(*) AS flattrs
        FROM merged WHERE version & 524288 = 0 GROUP BY member_id, creator_id
    ),
    funded AS (
        SELECT pairs.*, amount_micro - amount_micro * 1000 // 10000 AS pool, sum(flattrs) OVER member AS total
        FROM pairs JOIN read_parquet('{source}/pledges.parquet') USING (member_id)
        WINDOW member AS (PARTITION BY member_id)
    ),
    floors AS (
        SELECT member_id, creator_id, tie, pool, (pool * flattrs // total)::BIGINT AS floor,
               (pool * flattrs % total)::BIGINT AS remainder
        FROM funded
    ),
    ranked AS (
        SELECT member_id, creator_id, floor, pool - sum(floor) OVER (PARTITION BY member_id) AS over,
               row_number() OVER (PARTITION BY member_id ORDER BY remainder DESC, tie, creator_id) AS place
        FROM floors
    )
    SELECT member_id, creator_id, (floor + (place <= over)::BIGINT)::BIGINT AS micro FROM ranked
) TO '{target}/shares.parquet' (FORMAT parquet, COMPRESSION lz4_raw)
"""
_TAKES = """
COPY (SELECT creator_id, sum(micro)::BIGINT AS micro FROM read_parquet('{target}/shares.parquet') GROUP BY creator_id)
TO '{target}/takes.parquet' (FORMAT parquet, COMPRESSION lz4_raw)
"""


def main() -> None:
    """Split, write, say how long it took."""
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    target.mkdir(exist_ok=True)
    began = time.perf_counter()
    database = duckdb.connect(config={"threads": os.cpu_count() or 1, "preserve_insertion_order": False})
    database.execute(f"SET temp_directory = '{target}/spill'")
    for statement in (_SHARES, _TAKES):
        database.execute(statement.format(source=source, target=target))
    print(time.perf_counter() - began)


if __name__ == "__main__":
    main()
