-- What members pledge for some months as of now, and the import that said so. An amount of 0 takes a pledge back.
SELECT month, member_id, argMax(amount_micro, version) AS amount, argMax(currency, version), argMax(paid, version),
    max(version)
FROM pledges
WHERE month IN %(months)s AND (%(member_id)s = '' OR member_id = %(member_id)s)
    AND version IN (SELECT version FROM pledge_imports)
GROUP BY month, member_id
HAVING amount > 0
ORDER BY month, member_id
