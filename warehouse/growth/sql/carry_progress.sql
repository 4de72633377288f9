-- Progress of every new partition: all of the old log, and nothing of the new one yet. Tallies stay where they are, as
-- everybody adds them up. The old log has nothing left to count, so its newest stamp holds for all.
INSERT INTO progress
(
    partition, position, record_at, written_at, tallies.month, tallies.accepted, tallies.counted, tallies.duplicate,
    tallies.undo, tallies.rejected, tallies.late
)
WITH (SELECT max(record_at) FROM progress) AS newest
SELECT
    toUInt16(number), toUInt64(%(boundary)s), newest, now64(3, 'UTC'), tallies.month, tallies.accepted,
    tallies.counted, tallies.duplicate, tallies.undo, tallies.rejected, tallies.late
FROM (SELECT toUInt64(number) AS number FROM numbers(%(partitions)s)) AS wanted
LEFT JOIN
(
    SELECT toUInt64(partition) AS number, * FROM progress ORDER BY position DESC LIMIT 1 BY partition
) AS reached USING (number)
