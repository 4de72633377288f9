-- Every month that has pledges, flattrs or a seal, and whether it is sealed.
SELECT month, max(sealed) AS is_sealed
FROM
(
    SELECT DISTINCT month, 0 AS sealed FROM flattrs
    UNION ALL
    SELECT DISTINCT arrayJoin(months), 0 FROM pledge_imports
    UNION ALL
    SELECT month, 1 FROM seals
)
GROUP BY month
ORDER BY month
