-- The (member, creator) lines in which the recount and the stream's count differ, ten at most.
SELECT member_id, creator_id, sum(recounted) AS recounted_sum, sum(stated) AS stated_sum
FROM
(
    SELECT member_id, share.1 AS creator_id, share.2 AS recounted, toUInt64(0) AS stated
    FROM pools_staging
    ARRAY JOIN arrayZip(creators, creator_flattrs) AS share
    WHERE month = %(month)s
    UNION ALL
    SELECT member_id, creator_id, toUInt64(NOT bitTest(version, 19)), 0
    FROM flattrs FINAL
    WHERE %(quarantine_version)s != 0 AND month = %(month)s AND first_position != 18446744073709551615
      AND (member_id, creator_id, thing_id) IN (SELECT member_id, creator_id, thing_id
        FROM quarantined_as_of(of_month = %(month)s, until = %(quarantine_version)s))
    UNION ALL
    SELECT member_id, creator_id, 0, flattrs
    FROM counts_by_member FINAL
    WHERE month = %(month)s
)
GROUP BY member_id, creator_id
HAVING recounted_sum != stated_sum
ORDER BY member_id, creator_id
LIMIT 10
