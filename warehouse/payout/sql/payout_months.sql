-- Every month that has pledges, counted flattrs or a seal, and whether it is sealed. A month with nothing but undos or
-- pledges that were taken back has nothing to pay and is left out.
SELECT month, max(sealed) AS is_sealed
FROM
(
    SELECT month, 0 AS sealed
    FROM flattrs
    WHERE month NOT IN (SELECT month FROM seals)
    GROUP BY month
    HAVING min(first_position) < 18446744073709551615
    UNION ALL
    SELECT DISTINCT month, 0
    FROM
    (
        SELECT month
        FROM pledges
        WHERE month NOT IN (SELECT month FROM seals) AND version IN (SELECT version FROM pledge_imports)
        GROUP BY month, member_id
        HAVING argMax(amount_micro, version) > 0
    )
    UNION ALL
    SELECT month, 1 FROM seals
)
GROUP BY month
ORDER BY month
