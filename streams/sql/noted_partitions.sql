-- The number of partitions with which a log epoch began; 0 if none is noted.
SELECT argMin(partitions, (noted_at, partitions))
FROM log_partitions
WHERE epoch = %(epoch)s
