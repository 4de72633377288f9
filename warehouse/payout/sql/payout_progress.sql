-- The position up to which each partition is counted.
SELECT partition, max(position)
FROM progress
GROUP BY partition
