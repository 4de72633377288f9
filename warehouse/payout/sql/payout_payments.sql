-- The payout lines of closed months that these payment ids belong to.
SELECT
    month, creator_id, currency, members, flattrs, earned_micro, carried_in_micro, held_in_micro, adjusted_micro,
    paid_micro, carried_out_micro, held_out_micro, reason, payment_id
FROM payouts
WHERE payment_id IN %(ids)s AND payment_id != '' AND month IN (SELECT month FROM seals)
