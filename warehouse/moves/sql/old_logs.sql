-- Topics that the log has left with clicks of any of these months in them, and where they end. It is left once the new log has partitions.
SELECT toUInt8(epoch - 1), from_topic, ends, months
FROM log_moves
WHERE step = 'drained' AND hasAny(months, %(months)s) AND epoch IN (SELECT epoch FROM log_partitions)
ORDER BY epoch, at DESC
LIMIT 1 BY epoch
