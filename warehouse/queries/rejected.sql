-- Refused input, newest first: (topic, partition, position, rejected_at in ms, reason, detail, member_id,
-- site_id, raw in base64, since it need not be text). Empty parameters match everything.
SELECT
    topic, partition, position, toUnixTimestamp64Milli(rejected_at), reason, detail, member_id, site_id, base64Encode(raw)
FROM rejected FINAL
WHERE (%(month)s = 0 OR month = %(month)s)
  AND (%(reason)s = '' OR reason = %(reason)s)
  AND (empty(%(topics)s) OR (topic, partition, position) IN arrayZip(%(topics)s, %(partitions)s, %(positions)s))
ORDER BY rejected_at DESC, topic, partition, position DESC
LIMIT %(limit)s
