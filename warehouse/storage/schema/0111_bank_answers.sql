-- What banks have said about our payments: each fact once, never changed. What is credited again follows from all of a
-- payment's facts, whatever their order (warehouse/payout/books/returns.py).
CREATE TABLE IF NOT EXISTS bank_answers
(
    month             UInt32, -- whose close paid it
    payment_id        String,
    kind              LowCardinality(String), -- rejected, returned
    amount_micro      UInt64,
    currency          LowCardinality(String),
    code              LowCardinality(String), -- ISO 20022, or the bank's own; empty when it gave none
    note              String, -- the bank's own words, or those of our own CSV
    is_whole_file     UInt8,  -- said of all payments of a file
    -- The bank's names of the booking, and where it has none, what it says.
    account_reference String,
    transaction_id    String,
    wording           String,
    said_on           Date32,
    source_sha256     String, -- of the file that brought it
    read_at           DateTime64(6, 'UTC')
)
ENGINE = MergeTree
ORDER BY (month, payment_id, read_at);
