-- Quarantine: flattrs that leave counts and payouts until they are released.

-- The audit log: every flag and every release, in order. Rows are added, never changed or deleted.
-- What is in force on a subject is its newest step.
CREATE TABLE IF NOT EXISTS quarantine_log
(
    step       UInt64,                  -- 1, 2, ... over all months
    month      UInt32,
    action     LowCardinality(String),  -- flag, release
    kind       LowCardinality(String),  -- flattr, member, member_creator, site, creator
    member_id  String,                  -- empty where the kind does not name one; so the next three
    creator_id String,
    thing_id   String,                  -- in hexadecimal
    site_id    String,
    rule       LowCardinality(String),  -- velocity, site_share, ring_pair, ring_group, by hand
    reason     String,
    evidence   String,                  -- JSON: what the rule saw
    who        String,
    at         DateTime64(3, 'UTC')     -- by the service's clock
)
ENGINE = MergeTree
ORDER BY step;

-- Which flattrs the flags in force cover: a function of quarantine_log and flattrs, stated as
-- differences. The newest version counts, and a version counts once its row stands in
-- quarantine_versions: half a version is none.
-- ORDER BY creator first: most reads ask for creators.
CREATE TABLE IF NOT EXISTS quarantine_set
(
    month      UInt32,
    creator_id String,
    member_id  String,
    thing_id   FixedString(16),
    version    UInt64,
    held       UInt8
)
ENGINE = MergeTree
PARTITION BY month
ORDER BY (month, creator_id, member_id, thing_id, version);

CREATE TABLE IF NOT EXISTS quarantine_versions
(
    version UInt64,
    month   UInt32,
    step    UInt64,  -- the last step of the log that is in it
    flattrs UInt64   -- keys that it holds
)
ENGINE = MergeTree
ORDER BY version;

-- The flattrs in quarantine now, whether or not they were taken back since.
CREATE VIEW IF NOT EXISTS quarantined AS
SELECT month, member_id, creator_id, thing_id
FROM quarantine_set
WHERE version IN (SELECT version FROM quarantine_versions)
GROUP BY month, member_id, creator_id, thing_id
HAVING argMax(held, version) = 1;

-- The same as of a version: what a close has frozen.
CREATE VIEW IF NOT EXISTS quarantined_as_of AS
SELECT month, member_id, creator_id, thing_id
FROM quarantine_set
WHERE month = {of_month:UInt32} AND version <= {until:UInt64} AND version IN (SELECT version FROM quarantine_versions)
GROUP BY month, member_id, creator_id, thing_id
HAVING argMax(held, version) = 1;
