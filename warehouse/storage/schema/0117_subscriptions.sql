-- Subscriptions: flattrs that repeat on the first of every month (docs/subscriptions.md).

-- The clicks that begin or end one, fed by streams/. Whether a subscription stands at a time is what the newest click
-- before then says. Attempts of one click are one row with the earliest of their times, so rows merge in any order.
CREATE TABLE IF NOT EXISTS subscription_orders
(
    member_id  String,
    creator_id String,
    thing_id   FixedString(16),
    click_id   FixedString(16),
    ends       UInt8,
    version    SimpleAggregateFunction(min, UInt64), -- as in flattrs: true time in ms, 1 bit undo, 19 bits of the click id
    position   SimpleAggregateFunction(min, UInt64),
    until      SimpleAggregateFunction(max, UInt32), -- the last month, such as 202611; 0 if none is named
    site_id    SimpleAggregateFunction(max, String)
)
ENGINE = AggregatingMergeTree
ORDER BY (member_id, creator_id, thing_id, click_id, ends);

-- Months whose flattrs were posted, by `flattr subscriptions post`. The close asks for it.
CREATE TABLE IF NOT EXISTS subscriptions_posted
(
    month     UInt32,
    posted_at DateTime64(3, 'UTC'),
    flattrs   UInt64
)
ENGINE = MergeTree
ORDER BY (month, posted_at);

-- Where `flattr replay` puts the same clicks as the log has them.
CREATE TABLE IF NOT EXISTS replayed_orders
(
    member_id  String,
    creator_id String,
    thing_id   FixedString(16),
    click_id   FixedString(16),
    ends       UInt8,
    version    SimpleAggregateFunction(min, UInt64),
    position   SimpleAggregateFunction(min, UInt64),
    until      SimpleAggregateFunction(max, UInt32),
    site_id    SimpleAggregateFunction(max, String)
)
ENGINE = AggregatingMergeTree
ORDER BY (member_id, creator_id, thing_id, click_id, ends);
