-- The newest move after which clicks of any of these months stand in an older topic. It is one once the new log has partitions.
SELECT epoch, from_topic, from_partitions, topic, partitions, settings
FROM log_moves
WHERE step = 'drained' AND hasAny(months, %(months)s) AND epoch IN (SELECT epoch FROM log_partitions)
ORDER BY at DESC
LIMIT 1
