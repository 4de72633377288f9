-- Flattrs of a creator in a month. Each partition states its own absolute count, the newest
-- position wins; argMax over the few rows of one key range costs less than FINAL.
SELECT sum(newest)
FROM
(
    SELECT argMax(flattrs, position) AS newest
    FROM counts_by_creator
    WHERE month = %(month)s AND creator_id = %(creator_id)s
    GROUP BY partition
)
