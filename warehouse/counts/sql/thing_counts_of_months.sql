-- Flattrs of many things, each in a month of its own: (month, thing_id in hex, flattrs) per pair that has any.
-- For one month thing_counts.sql is quicker: a set of pairs costs half as much again as a set of ids.
SELECT month, lower(hex(thing_id)), sum(flattrs)
FROM counts_by_thing FINAL
WHERE month IN %(months)s AND (month, thing_id) IN
    (SELECT pair.1, toFixedString(unhex(pair.2), 16) FROM (SELECT arrayJoin(arrayZip(%(of_months)s, %(ids)s)) AS pair))
GROUP BY month, thing_id
