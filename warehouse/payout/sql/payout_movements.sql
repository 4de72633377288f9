-- The month's net movement by class of account: credits less debits.
SELECT class, sum(amount) AS movement
FROM
(
    SELECT toString(credit_class) AS class, toInt64(amount_micro) AS amount FROM ledger_staging WHERE month = %(month)s
    UNION ALL
    SELECT toString(debit_class), -toInt64(amount_micro) FROM ledger_staging WHERE month = %(month)s
)
GROUP BY class
ORDER BY class
