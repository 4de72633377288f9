-- Creators of a month whose counts were written since `since_ms` of the server's clock.
-- The minmax index by_change skips old data parts.
SELECT DISTINCT creator_id
FROM counts_by_creator
WHERE month = %(month)s AND changed_at > fromUnixTimestamp64Milli(toInt64(%(since_ms)s))
