-- Creators whose earned or paid amount differs between a provisional run and the closed month.
SELECT creator_id, sum(earned_before) AS b, sum(earned) AS e, sum(paid_before) AS pb, sum(paid) AS p
FROM
(
    SELECT line.creator_id AS creator_id, line.earned_micro AS earned_before, toUInt64(0) AS earned,
        line.paid_micro AS paid_before, toUInt64(0) AS paid
    FROM provisional_payouts
    WHERE line.month = %(month)s AND run = %(run)s
    UNION ALL
    SELECT creator_id, 0, earned_micro, 0, paid_micro FROM payouts WHERE month = %(month)s
)
GROUP BY creator_id
HAVING b != e OR pb != p
ORDER BY creator_id
