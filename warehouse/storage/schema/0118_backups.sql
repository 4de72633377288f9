-- Backups that are whole, by `flattr backup` (docs/operators.md). A backup's own row is the last thing that it copies.
CREATE TABLE IF NOT EXISTS backups
(
    name        String,
    begun_at    DateTime64(3, 'UTC'),
    finished_at DateTime64(3, 'UTC'),
    migration   UInt16, -- the newest of the database
    bytes       UInt64,
    partitions  Array(UInt32),
    positions   Array(UInt64) -- of each partition: up to here it is counted at least
)
ENGINE = MergeTree
ORDER BY finished_at;
