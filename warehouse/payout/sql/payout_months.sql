-- Every month that has flattrs, pledges or a seal, and whether it is sealed. Months of flattrs are read from the parts'
-- own notes: a scan for what is counted took 0.2 s of ten million. payout_pledged.sql says whether any is.
SELECT month, max(sealed) AS is_sealed
FROM
(
    SELECT month, 0 AS sealed FROM flattrs GROUP BY month
    UNION ALL
    SELECT month, 0 FROM pledges GROUP BY month
    UNION ALL
    SELECT month, 1 FROM seals
)
GROUP BY month
ORDER BY month
