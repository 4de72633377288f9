-- Flattrs of several creators in a month that stand and are in quarantine: (creator_id, flattrs).
-- Asked only in months that have a quarantine.
SELECT creator_id, count()
FROM
(
    SELECT creator_id
    FROM flattrs
    WHERE month = %(month)s AND creator_id IN %(creator_ids)s AND (member_id, creator_id, thing_id) IN
        (SELECT member_id, creator_id, thing_id FROM quarantined WHERE month = %(month)s AND creator_id IN %(creator_ids)s)
    GROUP BY month, member_id, creator_id, thing_id
    HAVING bitTest(max(flattrs.version), 19) = 0
)
GROUP BY creator_id
