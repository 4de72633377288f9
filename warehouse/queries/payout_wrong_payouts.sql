-- Creators whose payout is not the sum of their shares, does not balance, is no whole number
-- of minor units, lies below the minimum or has no reason. Ten at most.
SELECT creator_id, shared, earned
FROM
(
    SELECT creator_id, sum(share) AS shared, sum(earned_micro) AS earned, max(wrong) AS wrong_max
    FROM
    (
        SELECT
            creator_id, toUInt64(0) AS share, earned_micro,
            carried_in_micro + held_in_micro + toInt64(earned_micro) + adjusted_micro
                != toInt64(paid_micro) + carried_out_micro + held_out_micro
            OR modulo(paid_micro, %(minor_micro)s) != 0
            OR (paid_micro > 0 AND paid_micro < %(minimum_micro)s)
            OR (paid_micro > 0) != (reason = 'paid')
            OR (paid_micro > 0) != (payment_id != '') AS wrong
        FROM payouts_staging
        WHERE month = %(month)s
        UNION ALL
        SELECT creator_id, sum(share_micro), 0, 0
        FROM shares_staging
        WHERE month = %(month)s
        GROUP BY creator_id
    )
    GROUP BY creator_id
)
WHERE wrong_max OR shared != earned
ORDER BY creator_id
LIMIT 10
