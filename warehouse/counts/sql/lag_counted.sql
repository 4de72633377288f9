-- How far each partition is counted: (partition, position, timestamp of its record in ms).
SELECT partition, max(position), argMax(toUnixTimestamp64Milli(record_at), progress.position)
FROM progress
GROUP BY partition
