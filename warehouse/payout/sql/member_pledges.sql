-- What a member pledges, by month: (month, micro-units, currency, paid). The newest committed import counts.
SELECT month, argMax(amount_micro, version) AS amount, argMax(currency, version), argMax(paid, version)
FROM pledges
WHERE member_id = %(member_id)s AND version IN (SELECT version FROM pledge_imports)
GROUP BY month
HAVING amount > 0
ORDER BY month
