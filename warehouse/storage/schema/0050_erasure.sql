-- Members who were erased (docs/erasure.md says what that means, table by table).

-- Whose rows bear a pseudonym from which month on. Streams, replay and the import of pledges read it, so that
-- nothing that still holds the id (the log, a file) brings the member back. It holds hashes, never the id;
-- when the log has forgotten the member too, a row is needed no more, and with it goes the last
-- link from member to pseudonym.
CREATE TABLE IF NOT EXISTS erasures
(
    erasure      UUID,
    member_hash  FixedString(16), -- murmurHash3_128, by which the stream's state knows a member
    member_sha256 String,         -- hexadecimal
    pseudonym    String,          -- random, of the same partition
    open_from    UInt32,          -- the first month that was not closed: earlier ones keep the member's key
    listed_at    DateTime64(3, 'UTC'),
    forget_at    DateTime('UTC')
)
ENGINE = MergeTree
ORDER BY erasure
TTL forget_at;

-- The audit record: which step of which erasure was done when, and how many rows it was about. The proof
-- that a member was erased is a hash salted with the erasure's id; it does not lead to the pseudonym.
CREATE TABLE IF NOT EXISTS erasure_log
(
    erasure UUID,
    step    LowCardinality(String), -- listed, pledges, flattrs, counts, quarantine, quarantine log, labels, copies, done
    rows    UInt64,
    proof   String,  -- SHA-256 of the erasure's id and the member's, hexadecimal
    at      DateTime64(6, 'UTC')
)
ENGINE = MergeTree
ORDER BY (erasure, at);
