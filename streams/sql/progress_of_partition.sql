-- A partition's progress with its tallies: one row, or none before the first flush.
SELECT
    position,
    toUnixTimestamp64Milli(record_at),
    tallies.month,
    tallies.accepted,
    tallies.counted,
    tallies.duplicate,
    tallies.undo,
    tallies.rejected,
    tallies.late
FROM progress FINAL
WHERE partition = %(partition)s
