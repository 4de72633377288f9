-- What finance does with a closed month.

-- Who approved which seal. An export is final when two different keys approved the seal that the
-- month has; an approval of another seal counts for nothing.
CREATE TABLE IF NOT EXISTS approvals
(
    month       UInt32,
    seal        String,
    key_sha256  String,
    key_name    String,
    approved_at DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree
ORDER BY (month, seal, key_sha256);

-- Provisional runs: what a close would have stated at some moment, kept to be held against the
-- final month. A run is there when its row in provisional_runs is; that row is written last.
CREATE TABLE IF NOT EXISTS provisional_runs
(
    month   UInt32,
    run     UInt64,  -- 1, 2, ... within the month
    proof   String,
    made_at DateTime64(3, 'UTC')
)
ENGINE = MergeTree
ORDER BY (month, run);

CREATE TABLE IF NOT EXISTS provisional_payouts
(
    run  UInt64,
    line Tuple(
        month UInt32, creator_id String, currency String, members UInt64, flattrs UInt64, earned_micro UInt64,
        carried_in_micro Int64, held_in_micro Int64, adjusted_micro Int64, paid_micro UInt64,
        carried_out_micro Int64, held_out_micro Int64, reason String, payment_id String)
)
ENGINE = MergeTree
PARTITION BY line.month
ORDER BY (line.month, run, line.creator_id);
