-- The newest step of the newest move.
SELECT epoch, from_topic, from_partitions, topic, partitions, settings, step
FROM log_moves
ORDER BY at DESC
LIMIT 1
