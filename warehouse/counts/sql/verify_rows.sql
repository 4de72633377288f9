-- The rows behind the tallies, by month and label, up to the counted position of each partition (`positions`).
-- Rows at or below it were written before the progress row and no longer change; newer rows are left out.
WITH %(positions)s AS positions
SELECT month, 'counted' AS label, count()
FROM
(
    SELECT month, kafkaMurmurHash(member_id) %% length(positions) AS partition, min(first_position) AS first
    FROM flattrs
    WHERE month >= %(since)s
    GROUP BY month, member_id, creator_id, thing_id
)
WHERE first <= positions[partition + 1]
GROUP BY month
UNION ALL
SELECT month, 'duplicate', uniqExact(partition, position)
FROM duplicates
WHERE month >= %(since)s AND position <= positions[partition + 1]
GROUP BY month
UNION ALL
SELECT month, 'undo', uniqExact(partition, position)
FROM undos
WHERE month >= %(since)s AND position <= positions[partition + 1]
GROUP BY month
UNION ALL
SELECT month, 'late', uniqExact(partition, position)
FROM late
WHERE month >= %(since)s AND position <= positions[partition + 1]
GROUP BY month
