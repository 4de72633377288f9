-- Creators of a month whose counts were stored since a moment of the server's clock (ms).
-- Old parts are skipped by the minmax index by_change.
SELECT DISTINCT creator_id
FROM counts_by_creator
WHERE month = %(month)s AND changed_at > fromUnixTimestamp64Milli(toInt64(%(since_ms)s))
