-- The payment orders of a month that people have signed, by how many of different names. Whether a signature holds now is
-- not asked: what the bank has answered, it has had.
SELECT payment_order, uniqExact(approver)
FROM payment_approvals
WHERE month = %(month)s
GROUP BY payment_order
