-- The payments of a closed month that a bank has answered or that were credited again, as payout_payments.sql has them.
SELECT
    month, creator_id, currency, members, flattrs, earned_micro, carried_in_micro, held_in_micro, adjusted_micro,
    paid_micro, carried_out_micro, held_out_micro, reason, payment_id
FROM payouts
WHERE month = %(month)s AND payment_id != '' AND month IN (SELECT month FROM seals)
    AND
    (
        payment_id IN (SELECT payment_id FROM bank_answers WHERE month = %(month)s)
        OR concat('payment ', payment_id) IN (SELECT cites FROM adjustments WHERE kind = 'return')
    )
ORDER BY creator_id
