-- The payments of closed months: their payout lines, with the fields of warehouse.payout.closed_months.Payout.
SELECT
    month, creator_id, currency, members, flattrs, earned_micro, carried_in_micro, held_in_micro, adjusted_micro,
    paid_micro, carried_out_micro, held_out_micro, reason, payment_id
FROM payouts
WHERE month IN %(months)s AND payment_id != '' AND month IN (SELECT month FROM seals)
ORDER BY month, creator_id
