"""Child process of ``EmbeddedWarehouse``: serve ClickHouse from the current directory.

Only this entry of chdb goes through clickhouse-local's server code, which reads
``config.xml`` beside it and can listen. The last SELECT sleeps for ever and keeps the
process serving; the per-block limit on sleeping is lifted for it.
"""

from chdb._chdb import query  # type: ignore[attr-defined]  # compiled, without stubs

query(
    """
    SYSTEM START LISTEN TCP;
    SYSTEM START LISTEN HTTP;
    SELECT sleepEachRow(3) FROM numbers(1000000000)
    SETTINGS max_block_size = 1, function_sleep_max_microseconds_per_block = 0 FORMAT Null
    """,
    "CSV",
    path="data",
)
