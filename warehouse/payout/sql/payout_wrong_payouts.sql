-- At most ten creators whose payout does not balance, is not a whole number of minor units, is below the minimum, or
-- has an inconsistent reason or payment id.
SELECT
    creator_id,
    carried_in_micro + held_in_micro + toInt64(earned_micro) + adjusted_micro AS due,
    toInt64(paid_micro) + carried_out_micro + held_out_micro AS given
FROM payouts_staging
WHERE month = %(month)s
  AND (due != given
    OR modulo(paid_micro, %(minor_micro)s) != 0
    OR (paid_micro > 0 AND paid_micro < %(minimum_micro)s)
    OR (paid_micro > 0) != (reason = 'paid')
    OR (paid_micro > 0) != (payment_id != ''))
ORDER BY creator_id
LIMIT 10
