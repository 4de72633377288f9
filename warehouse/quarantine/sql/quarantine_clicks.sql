-- The times (ms) of active flattrs, for members with more than `flattrs_max` of them: (member_id, times).
SELECT member_id, groupArray(toUnixTimestamp64Milli(clicked_at))
FROM flattrs FINAL
WHERE month = %(month)s AND NOT bitTest(version, 19) AND first_position != 18446744073709551615
GROUP BY member_id
HAVING count() > %(flattrs_max)s
ORDER BY member_id
