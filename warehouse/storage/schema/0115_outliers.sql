-- What grew beyond the bounds since the month before, and who has looked at it. Append only: of a name and what was
-- measured of it, the newest row says how it stands. A row without `who` was found and waits for somebody; `present` 0
-- is one that is no outlier any more.
CREATE TABLE IF NOT EXISTS outliers
(
    month   UInt32,
    kind    LowCardinality(String), -- creator, member or site
    name    String,
    measure LowCardinality(String), -- flattrs, or earned (micro-units)
    present UInt64,
    before  UInt64,
    who     String,
    at      DateTime64(6, 'UTC')
)
ENGINE = MergeTree
ORDER BY (month, kind, name, measure, at);
