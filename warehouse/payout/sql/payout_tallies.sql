-- What became of the month's accepted clicks, over all partitions, from each one's newest progress row:
-- (accepted, counted, duplicate, undo, rejected, late).
SELECT
    sum(line.2), sum(line.3), sum(line.4), sum(line.5), sum(line.6), sum(line.7)
FROM
(
    SELECT arrayZip(
        tallies.month, tallies.accepted, tallies.counted, tallies.duplicate,
        tallies.undo, tallies.rejected, tallies.late) AS lines
    FROM progress FINAL
)
ARRAY JOIN lines AS line
WHERE line.1 = %(month)s
