-- Moves of the log to a topic with more partitions (warehouse/growth/): one row per step that is done.
CREATE TABLE IF NOT EXISTS log_moves
(
    epoch           UInt8, -- of the new topic; the old one's is one less
    step            LowCardinality(String), -- begun, drained, done, abandoned
    from_topic      String,
    from_partitions UInt32,
    topic           String,
    partitions      UInt32,
    settings        Map(String, String), -- of the old topic before it was closed, which the new one gets
    ends            Array(UInt64), -- of drained: where each old partition ends
    months          Array(UInt32), -- of drained: which months have clicks up to there
    at              DateTime64(6, 'UTC') DEFAULT now64(6)
)
ENGINE = MergeTree
ORDER BY (epoch, at);

-- Where the counts of new partitions are gathered, to stand in the tables of the same names all at once.
CREATE TABLE IF NOT EXISTS counts_by_creator_moving AS counts_by_creator;
CREATE TABLE IF NOT EXISTS counts_by_thing_moving AS counts_by_thing;

-- An erased member's hash and that of the pseudonym are equal modulo this number, so both share a partition for as
-- long as their number divides it. 0 in rows of before: they share one only for as long as there are as many as then.
ALTER TABLE erasures ADD COLUMN IF NOT EXISTS same_partition UInt32;
