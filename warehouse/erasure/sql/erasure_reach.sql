-- How far a partition is counted. Rows at or below that position are already written.
SELECT max(position)
FROM progress
WHERE partition = %(partition)s
HAVING count() > 0
