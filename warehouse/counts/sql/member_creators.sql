-- One page of the creators that a member flattred in a month, without quarantine, most flattrs first, then by name.
SELECT creator_id, sum(newest) AS total
FROM
(
    SELECT creator_id, toInt64(argMax(flattrs, position)) AS newest
    FROM counts_by_member
    WHERE month = %(month)s AND member_id = %(member_id)s
    GROUP BY creator_id
    -- quarantine
    UNION ALL
    SELECT creator_id, -1
    FROM flattrs
    WHERE month = %(month)s AND member_id = %(member_id)s AND (creator_id, thing_id) IN
        (SELECT creator_id, thing_id FROM quarantined WHERE month = %(month)s AND member_id = %(member_id)s)
    GROUP BY month, member_id, creator_id, thing_id
    HAVING bitTest(max(flattrs.version), 19) = 0
    -- end
)
GROUP BY creator_id
HAVING total > 0 AND (total < %(after_flattrs)s OR (total = %(after_flattrs)s AND creator_id > %(after_id)s))
ORDER BY total DESC, creator_id
LIMIT %(limit)s
