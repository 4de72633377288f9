-- In which other currencies the books speak: earlier months, the month's pledges, entries that wait for a close. Only
-- members with a pledge in another currency are asked for their newest one.
SELECT DISTINCT source, currency
FROM
(
    SELECT 'earlier months' AS source, JSONExtractString(proof, 'currency') AS currency FROM first_seals
    UNION ALL
    SELECT 'pledges', newest
    FROM
    (
        SELECT argMax(currency, version) AS newest
        FROM pledges
        WHERE month = %(month)s AND version IN (SELECT version FROM pledge_imports)
          AND member_id IN (SELECT member_id FROM pledges WHERE month = %(month)s AND currency != %(currency)s)
        GROUP BY member_id
        HAVING argMax(amount_micro, version) > 0
    )
    UNION ALL
    SELECT 'adjustments', currency FROM adjustments
)
WHERE currency != %(currency)s
ORDER BY source, currency
