-- Who holds a lock, since when, and under which number. Append only: of each holder the newest row says how it stands.
-- A row is worth something only while it is young by the server's clock, see warehouse/payout/close/lock.py.
CREATE TABLE IF NOT EXISTS locks
(
    name    LowCardinality(String),
    holder  String, -- random, one per take
    state   Enum8('claimed' = 1, 'held' = 2, 'released' = 3),
    number  UInt64, -- of a holder: higher than of any before; of a claim: 0
    host    String,
    process UInt32,
    at      DateTime64(6, 'UTC') DEFAULT now64(6, 'UTC')
)
ENGINE = MergeTree
ORDER BY (name, at)
TTL toDateTime(at) + INTERVAL 90 DAY;

-- The adjustments that the close of a month takes, while it computes; the proof lists them for good.
CREATE TABLE IF NOT EXISTS adjustments_taken
(
    month UInt32,
    id    String
)
ENGINE = MergeTree
PARTITION BY month
ORDER BY id;
