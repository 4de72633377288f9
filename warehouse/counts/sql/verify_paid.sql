-- For each closed month that is not archived: the flattrs its payouts were divided by, and the flattrs now active and outside quarantine.
SELECT closed.month, divided.flattrs, standing.flattrs
FROM (SELECT DISTINCT month FROM seals WHERE month NOT IN (SELECT month FROM archived_months)) AS closed
LEFT JOIN (SELECT month, sum(flattrs) AS flattrs FROM shares GROUP BY month) AS divided ON divided.month = closed.month
LEFT JOIN
(
    SELECT month, countIf(bitTest(version, 19) = 0) AS flattrs
    FROM
    (
        SELECT month, max(flattrs.version) AS version
        FROM flattrs
        WHERE month IN (SELECT month FROM seals)
          AND (month, member_id, creator_id, thing_id) NOT IN (SELECT month, member_id, creator_id, thing_id FROM quarantined)
        GROUP BY month, member_id, creator_id, thing_id
    )
    GROUP BY month
) AS standing ON standing.month = closed.month
ORDER BY closed.month
