-- Where old months are (docs/archive.md). Append only: of a month the newest row says how it stands.
CREATE TABLE IF NOT EXISTS archives
(
    month           UInt32,
    -- archiving: files are written, nothing has left; leaving: the files were read back, and rows leave; archived;
    -- restoring: rows come back; restored
    state           Enum8('archiving' = 1, 'leaving' = 2, 'archived' = 3, 'restoring' = 4, 'restored' = 5),
    place           String,
    manifest_sha256 String, -- of the archive's manifest, which has the hashes of its files; empty while it is archiving
    bytes           UInt64, -- of its files
    at              DateTime64(6, 'UTC') DEFAULT now64(6, 'UTC')
)
ENGINE = MergeTree
ORDER BY (month, at);

-- The months whose rows are not, or not all, in the tables. Who may ask for them need not be able to read where they are.
CREATE VIEW IF NOT EXISTS archived_months DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT month
FROM archives
GROUP BY month
HAVING argMax(state, at) IN ('leaving', 'archived', 'restoring');
