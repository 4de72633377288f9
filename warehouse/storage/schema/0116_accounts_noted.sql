-- Every account that was ever entered for a creator, with the server's own time: whoever writes `creators` can date a row
-- back, and so end the time in which a changed account has to be named by both approvers. Nobody may write here but
-- this view.
CREATE TABLE IF NOT EXISTS accounts_noted
(
    creator_id String,
    version    UInt64,
    iban       String,
    noted_at   DateTime64(6, 'UTC')
)
ENGINE = MergeTree
ORDER BY (creator_id, version);

CREATE MATERIALIZED VIEW IF NOT EXISTS accounts_note TO accounts_noted AS
SELECT creator_id, version, iban, now64(6, 'UTC') AS noted_at FROM creators WHERE iban != '';

INSERT INTO accounts_noted
SELECT creator_id, version, iban, toDateTime64(changed_at, 6, 'UTC') FROM creators WHERE iban != '';
