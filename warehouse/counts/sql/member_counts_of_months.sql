-- Flattrs of several members, each in its own month, and the number of creators they go to, without quarantine; and
-- the flattrs in quarantine: (month, member_id, flattrs, creators, quarantined).
WITH pairs AS (SELECT arrayJoin(arrayZip(%(of_months)s, %(ids)s)))
SELECT month, member_id, sum(greatest(stated - held, 0)), countIf(stated > held), sum(held)
FROM
(
    SELECT month, member_id, creator_id, sum(newest) AS stated, sum(quarantined) AS held
    FROM
    (
        SELECT month, member_id, creator_id, toInt64(argMax(flattrs, position)) AS newest, toInt64(0) AS quarantined
        FROM counts_by_member
        WHERE month IN %(months)s AND (month, member_id) IN pairs
        GROUP BY month, member_id, creator_id
        -- quarantine
        UNION ALL
        SELECT month, member_id, creator_id, 0, 1
        FROM flattrs
        WHERE month IN %(months)s AND (month, member_id) IN pairs AND (month, member_id, creator_id, thing_id) IN
            (SELECT month, member_id, creator_id, thing_id FROM quarantined
             WHERE month IN %(months)s AND (month, member_id) IN pairs)
        GROUP BY month, member_id, creator_id, thing_id
        HAVING bitTest(max(flattrs.version), 19) = 0
        -- end
    )
    GROUP BY month, member_id, creator_id
)
GROUP BY month, member_id
