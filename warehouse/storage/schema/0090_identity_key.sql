-- The key under which streams hash the names of members and creators (warehouse/identity_key.py). One row, made at
-- random right after these statements and never changed: of several inserts under one token the table keeps the first,
-- so that migrations which run side by side end in one key for all. Who may read it stands in
-- deploy/clickhouse/users.xml. It belongs into every backup.
CREATE TABLE IF NOT EXISTS identity_key
(
    k0      UInt64,
    k1      UInt64,
    made_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = MergeTree
ORDER BY tuple()
SETTINGS non_replicated_deduplication_window = 1;

-- Erasures from now on are listed by the keyed hash. member_hash was MurmurHash3, which anybody can compute and invert;
-- it stays for workers of the version before, as long as such a row does, and is empty in newer rows.
-- The id of a row that was listed before is gone, so its keyed hash cannot be made: workers know such a member by
-- member_sha256, until the row goes with forget_at.
-- A row without the keyed hash is refused: `flattr member erase` of the version before would write one.
ALTER TABLE erasures ADD COLUMN IF NOT EXISTS keyed_hash FixedString(16) AFTER member_hash;
ALTER TABLE erasures ADD CONSTRAINT IF NOT EXISTS keyed CHECK keyed_hash != toFixedString('', 16);
