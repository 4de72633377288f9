-- The end of each partition's log, and the last moment (ms) at which the log ended no further than what is counted
-- now: (partition, log end, level at); level at is 0 if that was never so.
-- Counted positions are passed in as arrays, the first element for partitions never counted, because joining the
-- two tables costs twice as much as two queries.
-- A log that ends at offset 0 is empty, and so always fully counted.
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
