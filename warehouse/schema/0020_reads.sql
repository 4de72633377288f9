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
