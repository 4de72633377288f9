-- Members whose pool is not what their pledge, fee and carry make it, or not divided to the
-- last micro-unit. Ten at most.
SELECT member_id, pool_micro, shared
FROM
(
    SELECT
        member_id, sum(pool) AS pool_micro, sum(given) AS shared, max(wrong) AS wrong_sum
    FROM
    (
        SELECT
            member_id,
            pool_micro AS pool,
            charity_micro + kept_micro + carried_out_micro AS given,
            pledge_micro - fee_micro + carried_in_micro != pool_micro AS wrong
        FROM pools_staging
        WHERE month = %(month)s
        UNION ALL
        SELECT member_id, 0, sum(share_micro), 0
        FROM shares_staging
        WHERE month = %(month)s
        GROUP BY member_id
    )
    GROUP BY member_id
)
WHERE wrong_sum OR pool_micro != shared
ORDER BY member_id
LIMIT 10
