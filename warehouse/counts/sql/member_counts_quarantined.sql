-- Flattrs of several members in a month and the number of creators they go to, without quarantine; and the flattrs in
-- quarantine: (member_id, flattrs, creators, quarantined). Run only for months that have a quarantine.
SELECT member_id, sum(greatest(stated - held, 0)), countIf(stated > held), sum(held)
FROM
(
    SELECT member_id, creator_id, sum(newest) AS stated, sum(quarantined) AS held
    FROM
    (
        SELECT member_id, creator_id, toInt64(argMax(flattrs, position)) AS newest, toInt64(0) AS quarantined
        FROM counts_by_member
        WHERE month = %(month)s AND member_id IN %(member_ids)s
        GROUP BY member_id, creator_id
        UNION ALL
        SELECT member_id, creator_id, 0, 1
        FROM flattrs
        WHERE month = %(month)s AND member_id IN %(member_ids)s AND (member_id, creator_id, thing_id) IN
            (SELECT member_id, creator_id, thing_id FROM quarantined WHERE month = %(month)s AND member_id IN %(member_ids)s)
        GROUP BY month, member_id, creator_id, thing_id
        HAVING bitTest(max(flattrs.version), 19) = 0
    )
    GROUP BY member_id, creator_id
)
GROUP BY member_id
