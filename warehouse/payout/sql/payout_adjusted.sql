-- The net movement of the month's adjustments, by class of account.
SELECT class, sum(amount) AS movement
FROM
(
    SELECT toString(credit_class) AS class, toInt64(amount_micro) AS amount FROM adjustments WHERE version > %(adjustments_before)s AND version <= %(adjustments_version)s
    UNION ALL
    SELECT toString(debit_class), -toInt64(amount_micro) FROM adjustments WHERE version > %(adjustments_before)s AND version <= %(adjustments_version)s
)
GROUP BY class
