-- The times (ms) of the flattrs that stand, of members who have more than a bound: (member_id, times).
SELECT member_id, groupArray(toUnixTimestamp64Milli(clicked_at))
FROM flattrs FINAL
WHERE month = %(month)s AND NOT bitTest(version, 19) AND first_position != 18446744073709551615
GROUP BY member_id
HAVING count() > %(flattrs_max)s
ORDER BY member_id
