-- The (member, creator) lines in which the recount and the stream's count differ, ten at most.
SELECT member_id, creator_id, sum(recounted) AS recounted_sum, sum(stated) AS stated_sum
FROM
(
    SELECT member_id, share.1 AS creator_id, share.2 AS recounted, toUInt64(0) AS stated
    FROM pools_staging
    ARRAY JOIN arrayZip(creators, creator_flattrs) AS share
    WHERE month = %(month)s
    UNION ALL
    SELECT member_id, creator_id, 0, flattrs
    FROM counts_by_member FINAL
    WHERE month = %(month)s
)
GROUP BY member_id, creator_id
HAVING recounted_sum != stated_sum
ORDER BY member_id, creator_id
LIMIT 10
