-- Flattrs of many things, each in its own month: (month, thing_id in hex, flattrs) per pair that has any.
-- For a single month use thing_counts.sql: a set of pairs costs half as much again as a set of ids.
SELECT month, lower(hex(thing_id)), sum(flattrs)
FROM counts_by_thing FINAL
WHERE month IN %(months)s AND (month, thing_id) IN
    (SELECT pair.1, toFixedString(unhex(pair.2), 16) FROM (SELECT arrayJoin(arrayZip(%(of_months)s, %(ids)s)) AS pair))
GROUP BY month, thing_id
