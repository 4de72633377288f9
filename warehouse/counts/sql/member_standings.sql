-- Which of these flattrs stand: (month, member_id, thing_id in hex) of those that do; the keys are three arrays.
-- Whose each thing is is looked up first, so that only the granules of the keys themselves are read.
WITH asked AS
(
    SELECT toUInt32(one.1) AS month, one.2 AS member_id, toFixedString(unhex(one.3), 16) AS thing_id
    FROM (SELECT arrayJoin(arrayZip(%(of_months)s, %(members)s, %(thing_ids)s)) AS one)
)
SELECT month, member_id, lower(hex(thing_id))
FROM flattrs
WHERE month IN %(months)s AND (month, member_id, creator_id, flattrs.thing_id) IN
(
    SELECT asked.month, asked.member_id, owners.creator, asked.thing_id
    FROM asked
    INNER JOIN
    (
        SELECT thing_id, min(creator_id) AS creator
        FROM things
        WHERE thing_id IN (SELECT thing_id FROM asked)
        GROUP BY thing_id
    ) AS owners ON owners.thing_id = asked.thing_id
)
GROUP BY month, member_id, creator_id, thing_id
HAVING bitTest(max(flattrs.version), 19) = 0
