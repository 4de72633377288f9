-- How far a partition is counted. What stands at or below was written before.
SELECT max(position)
FROM progress
WHERE partition = %(partition)s
HAVING count() > 0
