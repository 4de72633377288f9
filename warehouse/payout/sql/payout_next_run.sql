-- The number of a month's next provisional run. No run has it, nor the lines that one left that was interrupted.
SELECT max(run) + 1
FROM
(
    SELECT run FROM provisional_runs WHERE month = %(month)s
    UNION ALL
    SELECT run FROM provisional_payouts WHERE line.month = %(month)s
)
