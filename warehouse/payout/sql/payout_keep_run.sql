-- Store the staged payouts of a dry run as a provisional run.
INSERT INTO provisional_payouts (run, line)
SELECT %(run)s, (
    month, creator_id, currency, members, flattrs, earned_micro, carried_in_micro, held_in_micro, adjusted_micro,
    paid_micro, carried_out_micro, held_out_micro, reason, payment_id)
FROM payouts_staging
WHERE month = %(month)s
