-- When the newest click that begins or ends these subscriptions was made, of those before a time, in ms: (member, thing id
-- in hex, ms); no row where there is none.
SELECT member_id, lower(hex(thing_id)), bitShiftRight(max(said), 20)
FROM
(
    SELECT member_id, creator_id, thing_id, click_id, ends, min(version) AS said
    FROM subscription_orders
    WHERE member_id IN %(members)s AND thing_id IN (SELECT toFixedString(unhex(arrayJoin(%(thing_ids)s)), 16))
    GROUP BY member_id, creator_id, thing_id, click_id, ends
    HAVING bitShiftRight(said, 20) < %(at_ms)s
)
GROUP BY member_id, thing_id
