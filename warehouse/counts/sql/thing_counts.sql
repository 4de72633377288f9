-- Flattrs of many things in a month: (thing_id in hex, flattrs) per thing that has any.
-- The set of ids uses the primary key: at most one granule per thing and data part is read.
SELECT lower(hex(thing_id)), sum(flattrs)
FROM counts_by_thing FINAL
WHERE month = %(month)s AND thing_id IN (SELECT toFixedString(unhex(arrayJoin(%(thing_ids)s)), 16))
GROUP BY thing_id
