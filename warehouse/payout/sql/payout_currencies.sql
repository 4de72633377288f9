-- In which currencies the books speak: earlier months, the month's pledges, entries that wait for a close.
SELECT DISTINCT 'earlier months', JSONExtractString(proof, 'currency') FROM first_seals
UNION ALL
SELECT DISTINCT 'pledges', currency FROM pledges
WHERE month = %(month)s AND version IN (SELECT version FROM pledge_imports)
UNION ALL
SELECT DISTINCT 'adjustments', currency FROM adjustments
