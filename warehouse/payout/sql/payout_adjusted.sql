-- The net movement of the month's adjustments, by class of account.
SELECT class, sum(amount) AS movement
FROM
(
    SELECT toString(credit_class) AS class, toInt64(amount_micro) AS amount FROM adjustments WHERE id IN (SELECT id FROM adjustments_taken WHERE month = %(month)s)
    UNION ALL
    SELECT toString(debit_class), -toInt64(amount_micro) FROM adjustments WHERE id IN (SELECT id FROM adjustments_taken WHERE month = %(month)s)
)
GROUP BY class
