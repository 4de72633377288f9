-- Who may approve payments: an operator enrols the public half of a person's Ed25519 key, before the first approval.
-- The newest row of a name holds; `enrolled` 0 withdraws it.
CREATE TABLE IF NOT EXISTS approvers
(
    name       String,
    public_key String, -- 64 hexadecimal digits
    enrolled   UInt8,
    changed_at DateTime64(6, 'UTC')
)
ENGINE = MergeTree
ORDER BY (name, changed_at);

-- What a person signed: one payment order, to the last byte of the bank's file. A row proves nothing by itself: an
-- export checks the signature against the key that is enrolled under the name.
CREATE TABLE IF NOT EXISTS payment_approvals
(
    month         UInt32,
    seal          String,
    order_sha256  String,
    payment_order String CODEC(ZSTD(6)), -- canonical JSON, so that a difference can be named
    file_sha256   String,
    approver      String,
    public_key    String,
    signature     String, -- hexadecimal
    approved_at   DateTime64(6, 'UTC')
)
ENGINE = MergeTree
ORDER BY (month, order_sha256, approver);

-- Every row that was ever inserted into `seals`, with the server's own time: the first seal of a month holds, whatever
-- comes after it, and a second one is found. Nobody may write here but this view.
CREATE TABLE IF NOT EXISTS seals_noted
(
    month     UInt32,
    seal      String,
    previous  String,
    proof     String,
    sealed_at DateTime64(3, 'UTC'),
    noted_at  DateTime64(6, 'UTC')
)
ENGINE = MergeTree
ORDER BY (month, noted_at);

CREATE MATERIALIZED VIEW IF NOT EXISTS seals_note TO seals_noted AS
SELECT month, seal, previous, proof, sealed_at, now64(6, 'UTC') AS noted_at FROM seals;

INSERT INTO seals_noted
SELECT month, seal, previous, proof, sealed_at, toDateTime64(sealed_at, 6, 'UTC') FROM seals FINAL;

CREATE VIEW IF NOT EXISTS first_seals AS
SELECT month, first.1 AS seal, first.2 AS previous, first.3 AS proof, first.4 AS sealed_at, seals
FROM
(
    SELECT
        month, argMin((noted.seal, noted.previous, noted.proof, noted.sealed_at), noted.noted_at) AS first,
        uniqExact(noted.seal) AS seals
    FROM seals_noted AS noted
    GROUP BY month
);
