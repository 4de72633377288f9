-- Every month that has pledges, counted flattrs or a seal, and whether it is sealed. A month with nothing but undos
-- has nothing to pay and is left out.
SELECT month, max(sealed) AS is_sealed
FROM
(
    SELECT month, 0 AS sealed
    FROM flattrs
    WHERE month NOT IN (SELECT month FROM seals)
    GROUP BY month
    HAVING min(first_position) < 18446744073709551615
    UNION ALL
    SELECT DISTINCT arrayJoin(months), 0 FROM pledge_imports
    UNION ALL
    SELECT month, 1 FROM seals
)
GROUP BY month
ORDER BY month
