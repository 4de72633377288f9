-- Counts that a close found to differ from the flattrs and stated anew (warehouse/payout/recount.py): one row for each
-- line, written before the line itself, so that no count is changed without a trace. A close that is repeated
-- after a crash finds the same differences and writes the same rows.
CREATE TABLE IF NOT EXISTS restated_counts
(
    month       UInt32,
    counts      LowCardinality(String), -- by_member, by_creator, by_thing
    member_id   String,                 -- of by_member; empty in the others
    creator_id  String,
    thing_id    FixedString(16),        -- of by_thing
    partition   UInt16,                 -- 0 in by_member, whose table has none
    stated      UInt64,                 -- what the stream's count said
    flattrs     UInt64,                 -- what the flattrs say, and the count since
    position    UInt64,                 -- of the count's new row
    restated_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree
PARTITION BY month
ORDER BY (month, counts, creator_id, thing_id, member_id, partition, position);
