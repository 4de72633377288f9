-- What streams decided of clicks whose time another attempt may see otherwise (streams/decide.py), so that each
-- attempt counts in one month and at one time. A row is a function of the log, as those of 0001 are; it is written
-- before the flattrs of its batch, so a worker that finds those finds this.
CREATE TABLE IF NOT EXISTS retimed
(
    month     UInt32,          -- in which the click counts
    partition UInt16,
    -- click id xor its flattr's key in the state: no name, and nobody else's attempt
    click_key FixedString(16),
    position  UInt64,          -- of the attempt that decided
    word      UInt64           -- its time in ms (43 bits); bit 62: an undo that takes back the month before's as well
)
ENGINE = ReplacingMergeTree
PARTITION BY month
ORDER BY (month, partition, click_key)
-- Recovery takes the columns as they lie on the wire: partition 0 alone would be a sparse one.
SETTINGS ratio_of_defaults_for_sparse_serialization = 1;
