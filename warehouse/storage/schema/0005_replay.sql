-- Where `flattr replay` recounts a month from the log, to be compared with `flattrs` row by row.
-- It states what `flattrs` states and merges the same way; nothing is paid from it.
CREATE TABLE IF NOT EXISTS replayed_flattrs
(
    month          UInt32,
    member_id      String,
    creator_id     String,
    thing_id       FixedString(16),
    first_position SimpleAggregateFunction(min, UInt64),
    position       SimpleAggregateFunction(max, UInt64),
    version        SimpleAggregateFunction(max, UInt64),
    click_id       SimpleAggregateFunction(max, FixedString(16)),
    site_id        SimpleAggregateFunction(max, String),
    clicked_at     SimpleAggregateFunction(max, DateTime64(3, 'UTC'))
)
ENGINE = AggregatingMergeTree
PARTITION BY month
ORDER BY (month, member_id, creator_id, thing_id);
