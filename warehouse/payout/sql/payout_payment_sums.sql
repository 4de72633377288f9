-- How many payments a closed month has, and their sum.
SELECT countIf(paid_micro > 0), sum(paid_micro)
FROM payouts
WHERE month = %(month)s AND month IN (SELECT month FROM seals)
