-- Flattrs of many things in a month: (thing_id in hex, flattrs) per thing that has any. Read as creator_counts.sql.
-- The ids are literals (storage.literals): a subquery of them costs the server a tenth more, an array reads the whole month.
SELECT lower(hex(thing_id)), sum(newest)
FROM
(
    SELECT thing_id, argMax(flattrs, position) AS newest
    FROM counts_by_thing
    WHERE month = %(month)s AND thing_id IN %(thing_ids)s
    GROUP BY thing_id, partition
)
GROUP BY thing_id
