-- Flattrs of many things in a month: (thing_id in hex, flattrs) per thing that has any. Read as creator_counts.sql.
-- The set of ids uses the primary key: at most one granule per thing and data part is read.
SELECT lower(hex(thing_id)), sum(newest)
FROM
(
    SELECT thing_id, argMax(flattrs, position) AS newest
    FROM counts_by_thing
    WHERE month = %(month)s AND thing_id IN (SELECT toFixedString(unhex(arrayJoin(%(thing_ids)s)), 16))
    GROUP BY thing_id, partition
)
GROUP BY thing_id
