-- Subscriptions begun or ended in a month that differ between the replayed log and what the stream wrote, one row each.
-- Erased members' are gone for good, whatever the log still has.
WITH
    %(until)s AS until,
    stated AS
    (
        SELECT member_id, creator_id, thing_id, click_id, ends, min(version) AS version, min(position) AS position,
            max(until) AS last_month
        FROM subscription_orders
        GROUP BY member_id, creator_id, thing_id, click_id, ends
    ),
    replayed AS
    (
        SELECT member_id, creator_id, thing_id, click_id, ends, min(version) AS version, min(position) AS position,
            max(until) AS last_month
        FROM replayed_orders
        GROUP BY member_id, creator_id, thing_id, click_id, ends
    )
SELECT member_id, creator_id, lower(hex(thing_id)),
    if(count() = 2, 'subscription differs',
        if(any(side) = 'log', 'subscription in the log, not counted', 'subscription counted, not in the log'))
FROM
(
    SELECT *, 'log' AS side FROM (SELECT * FROM replayed EXCEPT SELECT * FROM stated)
    UNION ALL
    SELECT *, 'stated' FROM (SELECT * FROM stated EXCEPT SELECT * FROM replayed)
)
WHERE bitShiftRight(version, 20) >= %(from_ms)s AND bitShiftRight(version, 20) < %(to_ms)s
    AND position <= until[kafkaMurmurHash(member_id) %% length(until) + 1]
    AND member_id NOT IN (SELECT pseudonym FROM erasures)
    AND lower(hex(SHA256(member_id))) NOT IN (SELECT lower(member_sha256) FROM erasures)
GROUP BY member_id, creator_id, thing_id, click_id, ends
ORDER BY ALL
LIMIT 1000
