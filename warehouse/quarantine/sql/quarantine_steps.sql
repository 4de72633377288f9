-- A page of a month's quarantine log, in order.
SELECT
    step, month, action, kind, member_id, creator_id, thing_id, site_id, rule, reason, evidence, who,
    toUnixTimestamp64Milli(at)
FROM quarantine_log
WHERE month = %(month)s AND step > %(after)s
ORDER BY step
LIMIT %(limit)s
