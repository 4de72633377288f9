-- Creators, members and sites that have many flattrs this month, and many times last month's.
SELECT kind, name, now_flattrs, before_flattrs
FROM
(
    SELECT
        tupleElement(pair, 1) AS kind,
        tupleElement(pair, 2) AS name,
        countIf(month = %(month)s) AS now_flattrs,
        countIf(month = %(previous_month)s) AS before_flattrs
    FROM flattrs FINAL
    ARRAY JOIN [('creator', creator_id), ('member', member_id), ('site', site_id)] AS pair
    WHERE month IN (%(month)s, %(previous_month)s)
      AND NOT bitTest(version, 19) AND first_position != 18446744073709551615
    GROUP BY kind, name
)
WHERE now_flattrs >= %(flattrs_min)s AND now_flattrs >= before_flattrs * %(factor)s AND name != ''
ORDER BY kind, now_flattrs / (before_flattrs + 1) DESC, name
LIMIT 100 BY kind
