-- Active flattrs of many things that are in quarantine: (month, thing_id in hex, flattrs).
-- Run only for months that have a quarantine.
WITH keys AS
(
    SELECT month, member_id, creator_id, thing_id
    FROM quarantined
    WHERE month IN %(months)s AND thing_id IN (SELECT toFixedString(unhex(arrayJoin(%(thing_ids)s)), 16))
)
SELECT month, lower(hex(thing_id)), count()
FROM
(
    SELECT month, thing_id
    FROM flattrs
    WHERE month IN %(months)s AND (month, member_id, creator_id, thing_id) IN
        (SELECT month, member_id, creator_id, thing_id FROM keys)
    GROUP BY month, member_id, creator_id, thing_id
    HAVING bitTest(max(flattrs.version), 19) = 0
)
GROUP BY month, thing_id
