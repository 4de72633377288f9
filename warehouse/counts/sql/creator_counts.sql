-- Flattrs of several creators in a month: (creator_id, flattrs) per creator that has any.
-- An explicit argMax without PREWHERE (counts.LOOK_UP): FINAL costs the server up to half as much again.
SELECT creator_id, sum(newest)
FROM
(
    SELECT creator_id, argMax(flattrs, position) AS newest
    FROM counts_by_creator
    WHERE month = %(month)s AND creator_id IN %(creator_ids)s
    GROUP BY creator_id, partition
)
GROUP BY creator_id
