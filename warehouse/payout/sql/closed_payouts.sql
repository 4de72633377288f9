-- One page of a closed month's payouts by creator, with the fields of warehouse.payout.closed_months.Payout.
-- The primary key (month, creator_id) finds where the page starts.
SELECT
    month, creator_id, currency, members, flattrs, earned_micro, carried_in_micro, held_in_micro, adjusted_micro,
    paid_micro, carried_out_micro, held_out_micro, reason, payment_id
FROM payouts
WHERE month = %(month)s AND month IN (SELECT month FROM seals) AND creator_id > %(after_id)s
ORDER BY month, creator_id
LIMIT %(limit)s
