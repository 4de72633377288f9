-- Refused input is for repair, not for books: it goes after 90 days by the server's own clock. What the stream
-- refused of the topic `clicks` stays, since the tallies and receipts speak of it.
ALTER TABLE rejected
    ADD COLUMN IF NOT EXISTS cut UInt8,
    ADD COLUMN IF NOT EXISTS stored_at DateTime('UTC') DEFAULT now('UTC');
ALTER TABLE rejected MODIFY TTL stored_at + INTERVAL 90 DAY DELETE WHERE topic = 'rejected';

-- What was sent in again, all of it: it leaves the list of the refused.
CREATE TABLE IF NOT EXISTS rejected_replayed
(
    topic       LowCardinality(String),
    partition   UInt16,
    position    UInt64,
    clicks      UInt32,
    replayed_at DateTime('UTC') DEFAULT now('UTC')
)
ENGINE = ReplacingMergeTree(replayed_at)
ORDER BY (topic, partition, position)
TTL replayed_at + INTERVAL 90 DAY DELETE WHERE topic = 'rejected';
