-- The position up to which a partition is counted; no row if it never was.
SELECT max(position)
FROM progress
WHERE partition = %(partition)s
GROUP BY partition
