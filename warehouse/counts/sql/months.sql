-- Months that have flattrs or a seal, newest first, and whether they are sealed. The months of the flattrs come from
-- the names of the table's partitions: no data is read.
SELECT month, max(sealed)
FROM
(
    SELECT DISTINCT toUInt32OrZero(partition) AS month, 0 AS sealed
    FROM system.parts
    WHERE database = currentDatabase() AND table IN ('flattrs', 'flattrs_here') AND active AND rows > 0
    UNION ALL
    SELECT month, 1 FROM seals
)
GROUP BY month
ORDER BY month DESC
