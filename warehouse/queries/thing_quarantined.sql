-- Flattrs of many things in a month that stand and are in quarantine: (thing_id in hex, flattrs).
-- Asked only in months that have a quarantine.
WITH keys AS
(
    SELECT member_id, creator_id, thing_id
    FROM quarantined
    WHERE month = %(month)s AND thing_id IN (SELECT toFixedString(unhex(arrayJoin(%(thing_ids)s)), 16))
)
SELECT lower(hex(thing_id)), count()
FROM
(
    SELECT thing_id
    FROM flattrs
    WHERE month = %(month)s AND (member_id, creator_id, thing_id) IN (SELECT member_id, creator_id, thing_id FROM keys)
    GROUP BY month, member_id, creator_id, thing_id
    HAVING bitTest(max(flattrs.version), 19) = 0
)
GROUP BY thing_id
