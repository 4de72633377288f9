-- How far each partition is counted, and what became of its clicks until there: one row per partition and month.
-- The newest row of each partition is one atomic statement, so what it says holds for one moment.
SELECT partition, position, month, accepted, counted, duplicate, undo, rejected, late
FROM
(
    SELECT *
    FROM progress
    ORDER BY position DESC
    LIMIT 1 BY partition
)
ARRAY JOIN
    `tallies.month` AS month, `tallies.accepted` AS accepted, `tallies.counted` AS counted,
    `tallies.duplicate` AS duplicate, `tallies.undo` AS undo, `tallies.rejected` AS rejected, `tallies.late` AS late
ORDER BY partition, month
