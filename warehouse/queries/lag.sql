-- Each partition's progress beside the end of its log, one row per partition:
-- partition, counted position, its record time in ms, log end, and when the log was last seen
-- to end no further than what is counted now (ms). NULL where a side is not known.
-- A topic that nothing was ever written to ends at offset 0: nothing to count is counted.
WITH
    counted AS
    (
        SELECT
            partition,
            max(position) AS position,
            argMax(toUnixTimestamp64Milli(record_at), progress.position) AS record_at_ms
        FROM progress
        GROUP BY partition
    )
SELECT
    if(ends.partition_known = 1, ends.partition, counted.partition) AS number,
    nullIf(counted.position, 0),
    nullIf(counted.record_at_ms, 0),
    if(ends.partition_known = 1, ends.end_position, NULL),
    nullIf(ends.level_at_ms, 0)
FROM counted
FULL OUTER JOIN
(
    SELECT
        log.partition AS partition,
        1 AS partition_known,
        argMax(log.end_position, log.seen_at) AS end_position,
        maxIf(
            toUnixTimestamp64Milli(log.seen_at),
            log.end_position <= counted.position + 1 OR bitAnd(bitShiftRight(log.end_position, 16), 0xFFFFFFFFFF) = 0
        ) AS level_at_ms
    FROM log_ends AS log
    LEFT JOIN counted ON counted.partition = log.partition
    WHERE log.seen_at > fromUnixTimestamp64Milli(toInt64(%(since_ms)s))
    GROUP BY log.partition
) AS ends ON ends.partition = counted.partition
ORDER BY number
