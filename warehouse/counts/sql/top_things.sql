-- One page of a month's things by flattrs outside quarantine, most first, then by id, with creator and address.
-- Reads the counts of the whole month; addresses are looked up for this page only.
WITH page AS
(
    SELECT thing_id, sum(newest) AS total
    FROM
    (
        SELECT thing_id, toInt64(argMax(flattrs, position)) AS newest
        FROM counts_by_thing
        WHERE month = %(month)s
        GROUP BY thing_id, partition
        -- quarantine
        UNION ALL
        SELECT thing_id, -1
        FROM flattrs
        WHERE month = %(month)s AND (member_id, creator_id, thing_id) IN
            (SELECT member_id, creator_id, thing_id FROM quarantined WHERE month = %(month)s)
        GROUP BY month, member_id, creator_id, thing_id
        HAVING bitTest(max(flattrs.version), 19) = 0
        -- end
    )
    GROUP BY thing_id
    HAVING total > 0
       AND (total < %(after_flattrs)s OR (total = %(after_flattrs)s AND thing_id > unhex(%(after_id)s)))
    ORDER BY total DESC, thing_id
    LIMIT %(limit)s
)
SELECT lower(hex(page.thing_id)), page.total, names.creator, names.address
FROM page
LEFT JOIN
(
    SELECT thing_id, min(creator_id) AS creator, min(thing) AS address
    FROM things
    WHERE thing_id IN (SELECT thing_id FROM page)
    GROUP BY thing_id
) AS names ON names.thing_id = page.thing_id
ORDER BY page.total DESC, page.thing_id
