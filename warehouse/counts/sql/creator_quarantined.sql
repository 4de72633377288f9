-- Active flattrs of several creators that are in quarantine: (month, creator_id, flattrs).
-- Run only for months that have a quarantine.
SELECT month, creator_id, count()
FROM
(
    SELECT month, creator_id
    FROM flattrs
    WHERE month IN %(months)s AND creator_id IN %(creator_ids)s AND (month, member_id, creator_id, thing_id) IN
        (SELECT month, member_id, creator_id, thing_id FROM quarantined
         WHERE month IN %(months)s AND creator_id IN %(creator_ids)s)
    GROUP BY month, member_id, creator_id, thing_id
    HAVING bitTest(max(flattrs.version), 19) = 0
)
GROUP BY month, creator_id
