-- What members said of these subscriptions: (member_id, thing_id in hex, month, whether it stands now and reaches the month,
-- when the newest click was made, in ms), no row where nothing was said; the keys are three arrays. The newest click decides.
WITH asked AS
(
    SELECT one.1 AS member_id, toFixedString(unhex(one.2), 16) AS thing_id, toUInt32(one.3) AS month
    FROM (SELECT arrayJoin(arrayZip(%(members)s, %(thing_ids)s, %(months)s)) AS one)
)
SELECT said.member_id, lower(hex(said.thing_id)), asked.month,
    newest.1 = 0 AND (newest.2 = 0 OR newest.2 >= asked.month) AS stands, said.said_ms
FROM
(
    SELECT member_id, thing_id, argMax((ends, last_month), version) AS newest,
        bitShiftRight(max(version), 20) AS said_ms
    FROM
    (
        SELECT member_id, creator_id, thing_id, click_id, ends, min(version) AS version, max(until) AS last_month
        FROM subscription_orders
        WHERE member_id IN (SELECT member_id FROM asked) AND thing_id IN (SELECT thing_id FROM asked)
        GROUP BY member_id, creator_id, thing_id, click_id, ends
    )
    GROUP BY member_id, thing_id
) AS said
INNER JOIN asked ON asked.member_id = said.member_id AND asked.thing_id = said.thing_id
