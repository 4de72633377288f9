-- Payments of a month that are credited again already: returned by the bank, or withheld before they were sent.
SELECT DISTINCT payments.payment_id
FROM payouts AS payments
WHERE payments.month = %(month)s AND payments.payment_id != ''
    AND concat('payment ', payments.payment_id) IN (SELECT cites FROM adjustments WHERE kind = 'return')
