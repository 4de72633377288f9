-- Flattrs of a thing in a month: the newest absolute count of each partition, summed.
SELECT sum(newest)
FROM
(
    SELECT argMax(flattrs, position) AS newest
    FROM counts_by_thing
    WHERE month = %(month)s AND thing_id = unhex(%(thing_id)s)
    GROUP BY partition
)
