-- The newest log epoch that was noted, with the number of partitions with which it began.
SELECT epoch, argMin(partitions, (noted_at, partitions))
FROM log_partitions
GROUP BY epoch
ORDER BY epoch DESC
LIMIT 1
