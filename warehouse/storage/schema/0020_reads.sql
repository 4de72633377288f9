-- What the read API needs beside the counts.

-- Where each partition's log ended, as its stream worker saw it: a history, one row per
-- partition about once a second, by the service's clock. Subtracting `progress` gives the lag
-- in records; the last time at which the log ended no further than progress is now gives
-- `as_of`, the moment until which every accepted click is in the counts.
-- A day is kept, by the server's clock: that of a service may stand in another month. A
-- partition that is further behind falls back to progress.record_at.
-- ORDER BY partition first: the last row and the last hour of each are one short range.
CREATE TABLE IF NOT EXISTS log_ends
(
    partition    UInt16,
    seen_at      DateTime64(3, 'UTC'),
    end_position UInt64, -- ingest.click.position(epoch, offset of the next record to come, 0)
    kept_from    DateTime DEFAULT now()
)
ENGINE = MergeTree
ORDER BY (partition, seen_at)
TTL kept_from + INTERVAL 1 DAY;

-- A creator's and a thing's flattrs by time: the same rows in the order (creator, thing), so that
-- a series reads the creator's own range. A projection is rebuilt when parts merge, so it is never
-- older than its table; a materialized view would be a second truth.
ALTER TABLE flattrs MODIFY SETTING deduplicate_merge_projection_mode = 'rebuild';
ALTER TABLE flattrs ADD PROJECTION IF NOT EXISTS by_creator
(
    SELECT month, creator_id, thing_id, member_id, clicked_at, version ORDER BY month, creator_id, thing_id
);

-- Receipts: from a click's id to what became of it. A click id is random, so only a bloom filter
-- finds its granule; `duplicates` and `undos` have theirs already.
ALTER TABLE flattrs ADD INDEX IF NOT EXISTS by_click click_id TYPE bloom_filter(0.001) GRANULARITY 1;
ALTER TABLE late
    ADD COLUMN IF NOT EXISTS click_id FixedString(16)
        MATERIALIZED UUIDStringToNum(toString(toUUIDOrZero(JSONExtractString(click, 'click_id')))),
    ADD INDEX IF NOT EXISTS by_click click_id TYPE bloom_filter(0.001) GRANULARITY 1;
ALTER TABLE rejected
    ADD COLUMN IF NOT EXISTS click_id FixedString(16)
        MATERIALIZED UUIDStringToNum(toString(toUUIDOrZero(JSONExtractString(raw, 'click_id')))),
    ADD INDEX IF NOT EXISTS by_click click_id TYPE bloom_filter(0.001) GRANULARITY 1;

-- The live stream asks "what changed since": when the server stored a row, by its own clock. No
-- count depends on it; a replay states the same count with a newer changed_at, an event that
-- changes nothing. New rows stand in new, small parts, so the minmax index skips the rest.
ALTER TABLE counts_by_creator
    ADD COLUMN IF NOT EXISTS changed_at DateTime64(3, 'UTC') DEFAULT now64(3),
    ADD INDEX IF NOT EXISTS by_change changed_at TYPE minmax GRANULARITY 1;
ALTER TABLE counts_by_thing
    ADD COLUMN IF NOT EXISTS changed_at DateTime64(3, 'UTC') DEFAULT now64(3),
    ADD INDEX IF NOT EXISTS by_change changed_at TYPE minmax GRANULARITY 1;
