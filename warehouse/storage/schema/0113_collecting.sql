-- What members owe, collected by SEPA direct debit (docs/decisions/0026-one-debit-per-member-and-month.md).

-- Who allows us to collect from which account. The newest version of a member counts, unless it is withdrawn.
CREATE TABLE IF NOT EXISTS mandates
(
    member_id  String,
    version    UInt64,
    mandate_id String,
    signed_on  Date,
    name       String, -- in SEPA's characters
    iban       String,
    bic        String,
    withdrawn  UInt8,
    changed_at DateTime64(3, 'UTC')
)
ENGINE = MergeTree
ORDER BY (member_id, version);

-- The debits that were ever asked for: at most one for a member and month. They count once the row of their file stands
-- in debit_files, which is before anybody has the file.
CREATE TABLE IF NOT EXISTS debits
(
    month         UInt32,
    member_id     String,
    end_to_end_id String, -- by which the bank answers: FD-, the month, 24 hexadecimal digits
    amount_micro  UInt64,
    currency      LowCardinality(String),
    mandate_id    String,
    sequence      LowCardinality(String), -- FRST: the first by its mandate; RCUR
    collect_on    Date,
    file_sha256   String
)
ENGINE = MergeTree
PARTITION BY month
ORDER BY (month, end_to_end_id); -- not by member: an erasure renames the member in place

-- The files for the bank, to the byte: one of a month and day.
CREATE TABLE IF NOT EXISTS debit_files
(
    month        UInt32,
    collect_on   Date,
    notified_on  Date,
    message_id   String,
    debits       UInt64,
    amount_micro UInt64,
    sha256       String,
    file         String CODEC(ZSTD(6)),
    noted_at     DateTime64(3, 'UTC')
)
ENGINE = MergeTree
ORDER BY (month, collect_on);

-- What the bank answered. What became of a debit is a function of the set of its answers, not of their order:
-- returned, or else failed, or else collected, or else pending.
CREATE TABLE IF NOT EXISTS debit_answers
(
    end_to_end_id String,
    result        LowCardinality(String), -- collected, failed, returned
    reason        String,
    source_sha256 String, -- of the bank's file
    noted_at      DateTime64(3, 'UTC')
)
ENGINE = MergeTree
ORDER BY (end_to_end_id, result);

-- Who wrote a version of pledges: a file (import), a person who took pledges back (withdrawal), or the bank (answers).
ALTER TABLE pledge_imports ADD COLUMN IF NOT EXISTS kind LowCardinality(String) DEFAULT 'import';
