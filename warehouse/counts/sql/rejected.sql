-- Rejections, newest first: (topic, partition, position, rejected_at in ms, reason, detail, member_id, site_id, raw in
-- base64 because it may be binary, whether it was cut, when it was replayed in seconds or 0).
-- Empty parameters match everything; replayed rejections are left out unless `replayed` is set.
SELECT
    topic, partition, position, toUnixTimestamp64Milli(rejected_at), reason, detail, member_id, site_id,
    base64Encode(raw), cut, toUnixTimestamp(replays.replayed_at) AS replayed_s
FROM (SELECT * FROM rejected FINAL) AS refused
LEFT JOIN (SELECT * FROM rejected_replayed FINAL) AS replays USING (topic, partition, position)
WHERE (%(month)s = 0 OR month = %(month)s)
  AND (%(reason)s = '' OR reason = %(reason)s)
  AND (empty(%(topics)s) OR (topic, partition, position) IN arrayZip(%(topics)s, %(partitions)s, %(positions)s))
  AND (%(replayed)s OR replayed_s = 0)
ORDER BY rejected_at DESC, topic, partition, position DESC
LIMIT %(limit)s
