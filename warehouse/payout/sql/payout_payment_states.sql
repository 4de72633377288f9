-- A closed month's payments: how many there are and their sum, and of these what came back or was withheld.
SELECT
    countIf(paid_micro > 0), sum(paid_micro),
    countIf(concat('payment ', payment_id) IN (SELECT cites FROM adjustments WHERE kind = 'return')),
    (
        SELECT sum(amount_micro) FROM (SELECT DISTINCT id, amount_micro, cites FROM adjustments WHERE kind = 'return')
        WHERE cites IN (SELECT concat('payment ', payment_id) FROM payouts WHERE month = %(month)s AND payment_id != '')
    )
FROM payouts
WHERE month = %(month)s AND month IN (SELECT month FROM seals)
