-- The closed pools of members whose flattrs a step of the month's quarantine log may cover.
SELECT member_id, pool_micro, rule, creators, creator_flattrs, creator_micro
FROM pools
WHERE month = %(month)s AND month IN (SELECT month FROM seals)
  AND member_id IN
(
    SELECT member_id FROM flattrs
    WHERE month = %(month)s
      AND (member_id IN (SELECT member_id FROM quarantine_log WHERE month = %(month)s)
        OR creator_id IN (SELECT creator_id FROM quarantine_log WHERE month = %(month)s)
        OR site_id IN (SELECT site_id FROM quarantine_log WHERE month = %(month)s AND kind = 'site'))
)
