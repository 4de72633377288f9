-- What the month's close reads beside the stream's tables, and what it states.
--
-- Inputs are append-only with a version; the newest committed version counts and the older
-- ones stay. Results are partitioned by month, so that one month is replaced in one step
-- (ALTER TABLE ... REPLACE PARTITION) from the table of the same name with _staging behind.
-- A month's results are true when `seals` has its row, and not before.
--
-- Money is micro-units of the currency (1 EUR = 1,000,000), integers throughout.

-- What members pay, by month. Versions are the numbers of imports; an import counts once
-- its row stands in pledge_imports, so half an import is none.
CREATE TABLE IF NOT EXISTS pledges
(
    month        UInt32,
    member_id    String,
    version      UInt64,
    amount_micro UInt64,
    currency     LowCardinality(String),
    paid         UInt8
)
ENGINE = MergeTree
PARTITION BY month
ORDER BY (month, member_id, version);

CREATE TABLE IF NOT EXISTS pledge_imports
(
    version     UInt64,
    sha256      String,
    rows        UInt64,
    months      Array(UInt32),
    imported_at DateTime64(3, 'UTC')
)
ENGINE = MergeTree
ORDER BY version;

-- Who a creator is to the bank, and whether the money waits. Newest version counts.
CREATE TABLE IF NOT EXISTS creators
(
    creator_id String,
    version    UInt64,
    claimed    UInt8,
    name       String,
    iban       String,
    bic        String,
    held       UInt8,
    reason     String,  -- of the hold
    changed_at DateTime64(3, 'UTC')
)
ENGINE = MergeTree
ORDER BY (creator_id, version);

-- Corrections and returned payments: entries that the next close takes into its ledger, each
-- citing the line of a sealed month that it corrects. A close takes the versions above those
-- that the close before it took.
CREATE TABLE IF NOT EXISTS adjustments
(
    version      UInt64,
    id           String,
    kind         LowCardinality(String),
    debit_class  LowCardinality(String),
    debit_owner  String,
    credit_class LowCardinality(String),
    credit_owner String,
    amount_micro UInt64,
    currency     LowCardinality(String),
    cites        String,
    reason       String
)
ENGINE = MergeTree
ORDER BY version;

-- One line per member who pledged, flattred, or has something carried: the members' books,
-- with what each creator gets of the pool in three parallel arrays. A row per member instead
-- of a row per share: half the time of the close was spent on writing members' names again.
CREATE TABLE IF NOT EXISTS pools
(
    month             UInt32,
    member_id         String,
    currency          LowCardinality(String),
    pledge_micro      UInt64,  -- 0 when unpaid
    fee_micro         UInt64,
    carried_in_micro  UInt64,  -- pools of earlier months without flattrs
    pool_micro        UInt64,  -- pledge - fee + carried in
    counted           UInt64,  -- flattrs, with those that were taken back
    flattrs           UInt64,
    rule              LowCardinality(String), -- split, charity, carry, keep, unfunded
    charity_micro     UInt64,
    kept_micro        UInt64,
    carried_out_micro UInt64,
    lots_month        Array(UInt32), -- what carried out consists of, by month of origin
    lots_micro        Array(UInt64),
    things            UInt128,       -- sum of the thing ids flattred, modulo 2^128: which things they were
    creators          Array(String), -- sorted
    creator_flattrs   Array(UInt64),
    creator_micro     Array(UInt64)  -- each creator's share; 0 from an unfunded member
)
ENGINE = MergeTree
PARTITION BY month
ORDER BY (month, member_id);

-- The same, one line per member and creator.
CREATE VIEW IF NOT EXISTS shares AS
SELECT month, member_id, creator_id, flattrs, share_micro
FROM
(
    SELECT month, member_id, share.1 AS creator_id, share.2 AS flattrs, share.3 AS share_micro
    FROM pools
    ARRAY JOIN arrayZip(creators, creator_flattrs, creator_micro) AS share
);

-- What each creator is due and what becomes of it:
-- carried_in + held_in + earned + adjusted = paid + carried_out + held_out.
CREATE TABLE IF NOT EXISTS payouts
(
    month             UInt32,
    creator_id        String,
    currency          LowCardinality(String),
    members           UInt64,
    flattrs           UInt64,
    earned_micro      UInt64,
    carried_in_micro  Int64,
    held_in_micro     Int64,
    adjusted_micro    Int64,
    paid_micro        UInt64,  -- a whole number of minor units
    carried_out_micro Int64,
    held_out_micro    Int64,
    reason            LowCardinality(String), -- paid, below_minimum, held, unclaimed, debt, nothing
    payment_id        String   -- at most 35 characters: a bank's EndToEndId; empty when nothing is paid
)
ENGINE = MergeTree
PARTITION BY month
ORDER BY (month, creator_id);

-- Two-sided entries: amount_micro goes from the debit account to the credit account, so
-- the books balance line by line and balances are sums. An account is a class and an owner.
-- Members stand here as one account, whose lines are the pools; creators have one each.
CREATE TABLE IF NOT EXISTS ledger
(
    month        UInt32,
    kind         LowCardinality(String), -- charge, fee, fund, charity, keep, earn, adjust, hold, release, pay
    owner        String,                 -- the member, creator or adjustment that the entry is about
    debit_class  LowCardinality(String),
    debit_owner  String,
    credit_class LowCardinality(String),
    credit_owner String,
    amount_micro UInt64,
    currency     LowCardinality(String),
    cites        String
)
ENGINE = MergeTree
PARTITION BY month
ORDER BY (month, kind, owner);

CREATE TABLE IF NOT EXISTS pools_staging AS pools;
CREATE TABLE IF NOT EXISTS payouts_staging AS payouts;
CREATE TABLE IF NOT EXISTS ledger_staging AS ledger;

-- Which stages of which run are done. A run is named by its inputs, rules and code.
CREATE TABLE IF NOT EXISTS close_log
(
    month   UInt32,
    run     String,
    stage   Enum8('gate' = 1, 'compute' = 2, 'check' = 3, 'publish' = 4, 'seal' = 5),
    done_at DateTime64(3, 'UTC')
)
ENGINE = MergeTree
ORDER BY (month, done_at);

-- The closed months. One row is one atomic statement; the proof is the text that was hashed.
CREATE TABLE IF NOT EXISTS seals
(
    month     UInt32,
    seal      String,
    previous  String,
    proof     String,
    sealed_at DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree
ORDER BY month;
