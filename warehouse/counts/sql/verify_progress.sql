-- How far each partition is counted, and the tallies up to there: one row per partition and month; of a partition that
-- has counted nothing by itself yet, since the log has grown, one with the month 0.
-- A progress row is written atomically, so its position and tallies belong to the same moment.
SELECT partition, position, month, accepted, counted, duplicate, undo, rejected, late
FROM
(
    SELECT *
    FROM progress
    ORDER BY position DESC
    LIMIT 1 BY partition
)
LEFT ARRAY JOIN
    `tallies.month` AS month, `tallies.accepted` AS accepted, `tallies.counted` AS counted,
    `tallies.duplicate` AS duplicate, `tallies.undo` AS undo, `tallies.rejected` AS rejected, `tallies.late` AS late
ORDER BY partition, month
