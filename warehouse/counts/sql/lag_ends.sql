-- The end of each partition's log, and the last moment (ms) at which it ended no further than what is
-- counted now: (partition, log end, level at), the latter 0 when it never did.
-- The counted positions come as arrays, the first of them for partitions never counted: a join of the
-- two tables costs twice as much as two statements.
-- A topic that nothing was ever written to ends at offset 0: nothing to count is counted.
SELECT
    partition,
    argMax(end_position, seen_at),
    maxIf(
        toUnixTimestamp64Milli(seen_at),
        end_position <= arrayElement(%(positions)s, indexOf(CAST(%(partitions)s AS Array(UInt16)), partition) + 1) + 1
            OR bitAnd(bitShiftRight(end_position, 16), 0xFFFFFFFFFF) = 0
    )
FROM log_ends
WHERE seen_at > fromUnixTimestamp64Milli(toInt64(%(since_ms)s))
GROUP BY partition
