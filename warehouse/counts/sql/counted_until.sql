-- The position until which a partition is counted; no row when it never was.
SELECT max(position)
FROM progress
WHERE partition = %(partition)s
GROUP BY partition
