-- In which currencies the books speak: earlier months, the month's pledges, entries that wait for a close.
SELECT DISTINCT 'earlier months', JSONExtractString(proof, 'currency') FROM first_seals
UNION ALL
SELECT DISTINCT 'pledges', newest
FROM
(
    SELECT argMax(currency, version) AS newest
    FROM pledges
    WHERE month = %(month)s AND version IN (SELECT version FROM pledge_imports)
    GROUP BY member_id
    HAVING argMax(amount_micro, version) > 0
)
UNION ALL
SELECT DISTINCT 'adjustments', currency FROM adjustments
