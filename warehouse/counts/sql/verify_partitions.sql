-- How many partitions the topic has as far as the warehouse knows: those that ever had a click, or whose end a worker
-- reported in the last day.
SELECT max(partition) + 1
FROM (SELECT max(partition) AS partition FROM progress HAVING count() > 0 UNION ALL SELECT max(partition) FROM log_ends HAVING count() > 0)
HAVING count() > 0
