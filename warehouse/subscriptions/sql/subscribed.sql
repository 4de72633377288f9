-- Which of these subscriptions stand now: (member_id, thing_id in hex); the keys are three arrays, with the month that a
-- subscription has to reach. The newest click says whether one stands.
WITH asked AS
(
    SELECT one.1 AS member_id, toFixedString(unhex(one.2), 16) AS thing_id, toUInt32(one.3) AS month
    FROM (SELECT arrayJoin(arrayZip(%(members)s, %(thing_ids)s, %(months)s)) AS one)
)
SELECT said.member_id, lower(hex(said.thing_id)), asked.month
FROM
(
    SELECT member_id, thing_id, argMax((ends, last_month), version) AS newest
    FROM
    (
        SELECT member_id, creator_id, thing_id, click_id, ends, min(version) AS version, max(until) AS last_month
        FROM subscription_orders
        WHERE member_id IN (SELECT member_id FROM asked) AND thing_id IN (SELECT thing_id FROM asked)
        GROUP BY member_id, creator_id, thing_id, click_id, ends
    )
    GROUP BY member_id, thing_id
    HAVING newest.1 = 0
) AS said
INNER JOIN asked ON asked.member_id = said.member_id AND asked.thing_id = said.thing_id
WHERE newest.2 = 0 OR newest.2 >= asked.month
