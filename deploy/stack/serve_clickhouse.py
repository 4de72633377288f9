"""The child process of ``EmbeddedWarehouse``: serves ClickHouse from the current directory.

Only this entry point of chdb runs clickhouse-local's server code, which reads ``config.xml`` and can listen. The last
SELECT sleeps for ever to keep the process serving, so the limit on sleeping is lifted.
"""

from typing import Final

SERVE: Final = """
    SYSTEM START LISTEN TCP;
    SYSTEM START LISTEN HTTP;
    SELECT sleepEachRow(3) FROM numbers(1000000000)
    SETTINGS max_block_size = 1, function_sleep_max_microseconds_per_block = 0 FORMAT Null
    """

if __name__ == "__main__":
    from chdb._chdb import query  # type: ignore[attr-defined]  # compiled, without stubs

    query(SERVE, "CSV", path="data")
