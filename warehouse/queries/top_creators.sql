-- Creators of a month by flattrs, most first, then by name: one page.
-- It reads the month's whole range, one row per creator and partition; the API keeps its answer.
SELECT creator_id, sum(newest) AS total
FROM
(
    SELECT creator_id, argMax(flattrs, position) AS newest
    FROM counts_by_creator
    WHERE month = %(month)s
    GROUP BY creator_id, partition
)
GROUP BY creator_id
HAVING total > 0 AND (total < %(after_flattrs)s OR (total = %(after_flattrs)s AND creator_id > %(after_id)s))
ORDER BY total DESC, creator_id
LIMIT %(limit)s
