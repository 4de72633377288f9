-- What the stream states. Every table here is fed by streams/ alone.
--
-- One rule makes replays, late zombies and lost acknowledgements harmless: a row is a
-- function of a prefix of its partition's log, and merging rows is commutative,
-- associative and idempotent (min, max, or the newest position wins). So the same row
-- written twice, or an old one written late, changes nothing.
--
-- `month` is yyyymm in UTC. `position` is ingest.click.position(): epoch, offset, index.
-- Identifiers of 128 bits are FixedString(16): show them with lower(hex(thing_id)) and
-- UUIDNumToString(click_id).

-- One row per (month, member, thing): the unit of money.
-- ORDER BY member first: a member's statement reads one range, and the month's split
-- aggregates (member, creator) in the order in which it is stored. creator_id is a
-- function of thing_id and stands before it for that reason alone.
CREATE TABLE IF NOT EXISTS flattrs
(
    month          UInt32,
    member_id      String,
    creator_id     String,
    thing_id       FixedString(16),
    -- where the log first flattrs this thing: the click at this position is the counted one
    first_position SimpleAggregateFunction(min, UInt64),
    -- the last position that changed this row: what is newer than progress is re-emitted
    position       SimpleAggregateFunction(max, UInt64),
    -- the last word, by the member's own clock: ordered_at in ms (44 bits), 1 bit undo
    -- (an undo wins a tie), 19 bits of the click id's hash. Largest wins, in any order.
    version        SimpleAggregateFunction(max, UInt64),
    -- of the counted click; empty in rows that only move the version, so max finds it
    click_id       SimpleAggregateFunction(max, FixedString(16)),
    site_id        SimpleAggregateFunction(max, String),
    clicked_at     SimpleAggregateFunction(max, DateTime64(3, 'UTC')),
    active         UInt8 ALIAS bitTest(version, 19) = 0
)
ENGINE = AggregatingMergeTree
PARTITION BY month
ORDER BY (month, member_id, creator_id, thing_id);

-- A thing's address, once per creator and thing. Any spelling is as good as another.
CREATE TABLE IF NOT EXISTS things
(
    thing_id   FixedString(16),
    creator_id SimpleAggregateFunction(min, String),
    thing      SimpleAggregateFunction(min, String)
)
ENGINE = AggregatingMergeTree
ORDER BY thing_id;

-- Counts are absolute as of `position`, never deltas. A creator is flattred from every
-- partition, so its count is the sum over partitions; the same for a thing.
CREATE TABLE IF NOT EXISTS counts_by_creator
(
    month      UInt32,
    creator_id String,
    partition  UInt16,
    flattrs    UInt64,
    position   UInt64
)
ENGINE = ReplacingMergeTree(position)
PARTITION BY month
ORDER BY (month, creator_id, partition);

CREATE TABLE IF NOT EXISTS counts_by_thing
(
    month      UInt32,
    creator_id String,
    thing_id   FixedString(16),
    partition  UInt16,
    flattrs    UInt64,
    position   UInt64
)
ENGINE = ReplacingMergeTree(position)
PARTITION BY month
ORDER BY (month, thing_id, partition);

-- Members are partitioned, so (member, creator) has one writer and needs no partition.
CREATE TABLE IF NOT EXISTS counts_by_member
(
    month      UInt32,
    member_id  String,
    creator_id String,
    flattrs    UInt64,
    position   UInt64
)
ENGINE = ReplacingMergeTree(position)
PARTITION BY month
ORDER BY (month, member_id, creator_id);

-- Clicks that were accepted and did not count, one row each, keyed by where they stand.
CREATE TABLE IF NOT EXISTS duplicates
(
    month     UInt32,
    partition UInt16,
    position  UInt64,
    click_id  FixedString(16),
    member_id String,
    thing_id  FixedString(16),
    INDEX by_click click_id TYPE bloom_filter(0.001) GRANULARITY 1
)
ENGINE = ReplacingMergeTree
PARTITION BY month
ORDER BY (month, partition, position);

-- Undo clicks, one row each, whether or not there was something to take back.
CREATE TABLE IF NOT EXISTS undos
(
    month     UInt32,
    partition UInt16,
    position  UInt64,
    click_id  FixedString(16),
    member_id String,
    thing_id  FixedString(16),
    INDEX by_click click_id TYPE bloom_filter(0.001) GRANULARITY 1
)
ENGINE = ReplacingMergeTree
PARTITION BY month
ORDER BY (month, partition, position);

-- Clicks whose record came after their month's end and grace: kept, labelled, unpaid.
CREATE TABLE IF NOT EXISTS late
(
    month     UInt32,
    partition UInt16,
    position  UInt64,
    click     String
)
ENGINE = ReplacingMergeTree
PARTITION BY month
ORDER BY (month, partition, position);

-- Refused input with its bytes. `topic` is the log it stands in: `clicks` for what the
-- stream refused (position of the click), `rejected` for what ingest refused at the door.
-- `month` is that of the record's timestamp: a malformed click has none of its own.
CREATE TABLE IF NOT EXISTS rejected
(
    month       UInt32,
    topic       LowCardinality(String),
    partition   UInt16,
    position    UInt64,
    rejected_at DateTime64(3, 'UTC'),
    reason      LowCardinality(String),
    detail      String,
    raw         String
)
ENGINE = ReplacingMergeTree
PARTITION BY month
ORDER BY (month, topic, partition, position);

-- How far each partition is counted, and what became of every click until there. One row
-- is one atomic statement: tallies (parallel arrays, one entry per month) are cumulative
-- as of `position`, so a replay states them again and never adds them twice.
-- It is written last: whatever it claims is in the tables above.
CREATE TABLE IF NOT EXISTS progress
(
    partition        UInt16,
    position         UInt64,   -- of the last click counted in: epoch, offset, 65535
    record_at        DateTime64(3, 'UTC'), -- newest record timestamp until there
    written_at       DateTime64(3, 'UTC'),
    tallies Nested
    (
        month     UInt32,
        accepted  UInt64,
        counted   UInt64,
        duplicate UInt64,
        undo      UInt64,
        rejected  UInt64,
        late      UInt64
    )
)
ENGINE = ReplacingMergeTree(position)
ORDER BY partition;
